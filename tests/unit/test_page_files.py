"""The page's own files: small, without anything inline, and without any way to read data as markup or code."""

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "services" / "gateway" / "static"
SCRIPTS = sorted(STATIC.rglob("*.js"))
PAGES = sorted(STATIC.glob("*.html"))
FORBIDDEN = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser",
             "createContextualFragment", "srcdoc", "setAttributeNS", "localStorage.clear")  # fmt: skip


def named(files):
    return pytest.mark.parametrize("file", files, ids=lambda file: file.name)


def test_the_pages_own_script_is_below_100_kb():
    assert sum(file.stat().st_size for file in STATIC.glob("page/*.js")) < 100_000


@named(SCRIPTS)
def test_a_script_never_reads_data_as_markup_or_code(file):
    assert [word for word in FORBIDDEN if word in file.read_text()] == []


@named(SCRIPTS)
def test_a_script_imports_only_what_lies_beside_it(file):
    for name in re.findall(r'from "([^"]+)"', file.read_text()):
        assert name.startswith("./") and (file.parent / name).is_file()


@named(PAGES)
def test_a_page_has_nothing_inline(file):
    text = file.read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text)
    assert re.findall(r"<script(?![^>]*\ssrc=)", text) == []


@named(PAGES)
def test_what_a_page_names_is_served_beside_it(file):
    for path in re.findall(r'(?:src|href)="/static/([^"]+)"', file.read_text()):
        assert (STATIC / path).is_file()


def test_every_element_a_script_asks_for_is_on_the_page():
    ids = set(re.findall(r'\bid="([\w-]+)"', (STATIC / "index.html").read_text()))
    made = set(re.findall(r'\bid: "([\w-]+)"', "".join(file.read_text() for file in SCRIPTS)))
    for file in STATIC.glob("page/*.js"):
        assert set(re.findall(r'byId\("([\w-]+)"\)', file.read_text())) <= ids | made, file.name
