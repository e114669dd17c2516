"""Which files of tests may run side by side."""

import re

from tests.side_by_side import one_by_one
from tests.support import ROOT


def test_whatever_opens_a_browser_or_makes_networks_runs_one_after_another():
    using = re.compile(r"tests\.(e2e\.browser|topology\.stack) import|\(page\b")
    files = [file for file in (ROOT / "tests" / "e2e").glob("test_*.py") if using.search(file.read_text())]
    assert len(files) > 8
    assert [file.name for file in files if not one_by_one(file.name)] == []
    assert not one_by_one("tests/e2e/test_jobs.py")
