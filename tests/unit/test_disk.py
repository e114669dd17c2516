"""How many bytes lie under a directory, also while they go away."""

import os
import shutil
from pathlib import Path

import pytest

from services.common.disk import bytes_under


@pytest.fixture
def tree(tmp_path):
    for name, length in (("a/one", 3), ("a/b/two", 5), ("three", 7)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * length)
    return tmp_path


def test_the_lengths_of_all_files_are_summed(tree):
    assert bytes_under(tree) == 15


def test_nothing_lies_where_there_is_no_directory(tmp_path):
    assert bytes_under(tmp_path / "never") == 0


@pytest.mark.parametrize(("gone", "left"), [("a", 7), ("a/b", 10), ("a/b/two", 10), ("a/one", 12)])
def test_what_goes_away_during_the_count_counts_nothing(tree, gone, left, monkeypatch):
    """Everything is listed before what is gone goes: it stands in its directory's list and is no longer there."""
    listed, doomed = os.scandir, tree / gone

    def scandir(place):
        entries = _Listing(listed(place))
        if Path(place) == doomed.parent:
            monkeypatch.undo()
            shutil.rmtree(doomed) if doomed.is_dir() else doomed.unlink()
            monkeypatch.setattr(os, "scandir", scandir)
        return entries

    monkeypatch.setattr(os, "scandir", scandir)
    assert bytes_under(tree) == left


class _Listing(list):
    def __enter__(self):
        return iter(self)

    def __exit__(self, *error):
        pass
