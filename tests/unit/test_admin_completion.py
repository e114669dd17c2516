"""What a shell is told while a command is typed."""

import pytest
from typer.testing import CliRunner

from services.admin.__main__ import app


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("almanac adap", ["adapters"]),
        ("almanac adapters ", ["list", "load", "unload"]),
        ("almanac keys create --sc", ["--scope"]),
    ],
)
def test_bash_completes_commands_and_options(typed, offered):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    told = CliRunner().invoke(app, [], env={"_ALMANAC_COMPLETE": "complete_bash", **words}, prog_name="almanac")
    assert told.output.split() == offered
