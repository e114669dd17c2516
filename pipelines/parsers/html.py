"""HTML: its main content as Markdown, without navigation and other frames. Runs in a worker process."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipelines.parsers.base import Limits, Parsed, Unreadable, check_size
from pipelines.parsers.encoding import clean, decode_html

_SIZES = ("min_extracted_size", "min_output_size", "min_extracted_comm_size", "min_output_comm_size", "min_file_size")
_EMPHASIS = ("b", "strong", "i", "em", "u", "mark", "small", "font")
_DEEPEST = 500
_LONGEST_TITLE = 1_000


def parse(path: Path, limits: Limits) -> Parsed:
    """The page's main content, its title and its canonical address."""
    import trafilatura

    tree = _tree(decode_html(path.read_bytes()), limits)
    described = trafilatura.extract_metadata(deepcopy(tree), extensive=False)
    text = trafilatura.extract(
        tree, output_format="markdown", include_comments=False, include_tables=True, favor_recall=True, config=_config()
    )
    text = clean(text or trafilatura.html2txt(tree)).strip()
    if not text:
        raise Unreadable("has no text")
    return Parsed(text, _fields(described))


def _tree(text: str, limits: Limits) -> Any:
    from lxml import etree, html

    if not text.strip():
        raise Unreadable("the file is empty")
    parser = html.HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    try:
        tree = html.document_fromstring(text.encode(), parser=parser)
    except etree.ParserError:
        raise Unreadable("has no text") from None
    # libxml2 gives what it had when a limit stopped it.
    if any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in parser.error_log) or _depth(tree) > _DEEPEST:
        raise Unreadable("nested too deeply")
    etree.strip_elements(tree, "script", "style", with_tail=False)
    check_size(tree.text_content(), limits)
    # Marks of emphasis would only stand in the way of quotes.
    etree.strip_tags(tree, *_EMPHASIS)
    return tree


def _depth(tree: Any) -> int:
    from lxml import etree

    depth = deepest = 0
    for event, _ in etree.iterwalk(tree, events=("start", "end")):
        depth += 1 if event == "start" else -1
        deepest = max(deepest, depth)
    return deepest


def _config() -> Any:
    """A short page is a page too."""
    from trafilatura.settings import DEFAULT_CONFIG

    config = deepcopy(DEFAULT_CONFIG)
    for name in _SIZES:
        config["DEFAULT"][name] = "0"
    config["DEFAULT"]["max_file_size"] = str(2**31)
    return config


def _fields(described: Any) -> dict[str, str]:
    title = clean(described.title or "").strip()[:_LONGEST_TITLE] if described else ""
    address = clean(described.url or "") if described else ""
    uri = address if urlsplit(address).scheme in ("http", "https") and len(address) <= 2_000 else ""
    return {name: value for name, value in (("title", title), ("uri", uri)) if value}
