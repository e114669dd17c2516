"""The committed stubs are what the protos give."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("grpc_tools")
ROOT = Path(__file__).parents[2]


def test_stubs_are_what_the_protos_give(tmp_path):
    protos = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("services/protos/*.proto"))
    out = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I.", *out, *protos], cwd=ROOT, check=True)
    made = sorted((tmp_path / "services" / "protos").iterdir())
    assert len(made) == 3 * len(protos)
    for path in made:
        assert path.read_text() == (ROOT / "services" / "protos" / path.name).read_text(), path.name
