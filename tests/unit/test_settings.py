"""Every setting is declared once, described, documented, and frozen."""

import importlib
import re
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from services.common.settings import _UNSET, Settings

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.parent.name for path in ROOT.glob("services/*/settings.py") if path.parent.name != "common")


def classes() -> list[type[Settings]]:
    for name in MODULES:
        importlib.import_module(f"services.{name}.settings")
    found, pending = [], [Settings]
    while pending:
        pending += (one := pending.pop()).__subclasses__()
        found.append(one)
    return found


def documented() -> set[str]:
    return set(re.findall(r"\| `(ALMANAC_[A-Z0-9_]+)` \|", (ROOT / "docs" / "operations.md").read_text()))


def test_every_setting_is_documented_and_nothing_else_is():
    declared = {f"ALMANAC_{name.upper()}" for one in classes() for name in one.model_fields}
    assert declared == documented()


def told(default: object) -> str:
    """As the handbook writes a default: nothing where it is empty or made from other settings."""
    text = "" if default in (None, PydanticUndefined, _UNSET) else str(default)
    text = ",".join(default) if isinstance(default, tuple) else text
    return f"`{text}`" if text else ""


def test_the_handbook_tells_each_default_and_what_it_is():
    text = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"\| `ALMANAC_(\w+)` \| (.*?) ?\| (.+) \|", text)
    declared = {
        (name.upper(), told(field.default), field.description)
        for one in classes()
        for name, field in one.model_fields.items()
    }
    assert set(rows) <= declared, set(rows) - declared


def test_every_setting_describes_itself():
    for one in classes():
        for name, field in one.model_fields.items():
            assert field.description, f"{one.__name__}.{name}"


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Settings().home = Path("elsewhere")


def test_a_long_home_still_has_sockets_that_fit(tmp_path):
    settings = Settings(home=tmp_path / ("x" * 100))
    assert len(settings.retriever_address.removeprefix("unix:")) < 108
    assert settings.home.name == "x" * 100
