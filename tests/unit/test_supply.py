"""What the images are made of: licences that somebody has looked at, and bills of materials of what is locked."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def supply() -> ModuleType:
    spec = importlib.util.spec_from_file_location("supply", ROOT / "infra" / "supply.py")
    assert spec and spec.loader
    code = sys.modules["supply"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    return code


def test_every_locked_package_is_listed_with_its_images_and_no_other(supply: ModuleType) -> None:
    locked = {key: one.images for key, one in supply.locked().items()}
    assert {key: one.images for key, one in supply.listed().items()} == locked, "run make licences"
    assert len(supply.images()) == 8 and all(
        any(image in held for held in locked.values()) for image in supply.images()
    )
    assert all(one.sha256 for one in supply.locked().values()), "a package without a hash"


def test_no_licence_slips_in_that_nobody_has_looked_at(supply: ModuleType) -> None:
    listed = supply.listed().values()
    unread = [one for one in listed if one.licence == supply.UNREAD and one.name not in supply.REVIEWED]
    assert {image for one in unread for image in one.images} <= {"generator-gpu"}, "installed in no environment here"
    asking = {one.name for one in listed if one.licence != supply.UNREAD and not supply.is_permissive(one.licence)}
    assert asking <= set(supply.REVIEWED)
    assert set(supply.REVIEWED) <= {one.name for one in listed}


@pytest.mark.parametrize(
    ("licence", "permissive"),
    [
        ("MIT", True),
        ("(MIT OR GPL-3.0-only) AND BSD-3-Clause", True),
        ("MIT AND GPL-3.0-only", False),
        ("AGPL-3.0", False),
        ("Proprietary", False),
        ("Apache-2.0 AND Apache-2.0 WITH LLVM-exception", True),
    ],
)
def test_a_licence_is_permissive_if_every_part_leaves_a_permissive_choice(
    supply: ModuleType, licence: str, permissive: bool
) -> None:
    assert supply.is_permissive(licence) is permissive


def test_a_bill_of_materials_holds_what_is_locked_with_hashes_and_licences(supply: ModuleType) -> None:
    told = {one["purl"]: one for one in json.loads(supply.bill("generator"))["components"]}
    locked = [one for one in supply.locked().values() if "generator" in one.images]
    assert set(told) == {f"pkg:pypi/{one.name}@{one.version}" for one in locked}
    for one in locked:
        found = told[f"pkg:pypi/{one.name}@{one.version}"]
        assert {digest["content"] for digest in found["hashes"]} == set(one.sha256) and found["licenses"]


@pytest.mark.slow
def test_a_bill_of_materials_is_valid(supply: ModuleType) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(supply.bill("orchestrator")) is None


def test_an_audit_that_nobody_can_be_asked_for_says_so_and_passes(
    supply: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert supply.audit() == 0
    assert "not audited" in capsys.readouterr().out
