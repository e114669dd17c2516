"""What the command line sends: nothing from outside the folder, nothing half, and every file left out is named."""

import os
from pathlib import Path

import httpx
import pytest
import typer

from services.admin import inputs, jobs
from services.admin.client import Gateway
from services.admin.failures import Failed
from services.admin.inputs import steady, uploads


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "folder"
    (found / "sub").mkdir(parents=True)
    (found / "a.md").write_text("A")
    (found / "sub" / "b.PDF").write_text("B")
    (found / "left.exe").write_text("")
    return found


def names(folder):
    return [name for name, _ in uploads([str(folder)])]


def test_every_kind_is_taken_from_a_folder_whatever_the_case(folder):
    assert names(folder) == ["a.md", "sub/b.PDF"]


def test_a_link_out_of_the_folder_is_named_and_left_out(folder, tmp_path, capsys):
    (tmp_path / "secret.md").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "c.md").write_text("C")
    (folder / "link.md").symlink_to(tmp_path / "secret.md")
    (folder / "there").symlink_to(tmp_path / "outside")
    (folder / "loop").symlink_to(folder.parent)
    assert names(folder) == ["a.md", "sub/b.PDF"]
    told = capsys.readouterr().err
    assert told.count("leads out of the directory") == 3
    assert all(name in told for name in ("link.md", "there", "loop"))


def test_a_link_within_the_folder_is_followed_once_and_one_to_nowhere_named(folder, capsys):
    (folder / "again.md").symlink_to(folder / "sub" / "b.PDF")
    (folder / "nowhere.md").symlink_to(folder / "nothing")
    (folder / "circle.md").symlink_to(folder / "circle.md")
    assert len(uploads([str(folder)])) == 2
    assert capsys.readouterr().err.count("leads nowhere") == 2


def test_what_is_no_file_is_wrong_use(tmp_path):
    os.mkfifo(tmp_path / "pipe.md")
    with pytest.raises(typer.BadParameter, match="neither a file nor a directory"):
        uploads([str(tmp_path / "pipe.md")])


def test_a_file_that_changes_while_it_is_read_is_named(folder, monkeypatch):
    copy = inputs.shutil.copyfileobj

    def slowly(source, target):
        copy(source, target)
        with Path(source.name).open("a") as stream:
            stream.write("more")

    monkeypatch.setattr(inputs.shutil, "copyfileobj", slowly)
    with steady([("a.md", folder / "a.md")]) as (copies, wrong):
        assert copies == [] and wrong == ["a.md: changed while it was read; send it again"]


def test_a_file_that_shrinks_while_it_is_read_is_named(folder, monkeypatch):
    monkeypatch.setattr(inputs.shutil, "copyfileobj", lambda source, target: None)
    with steady([("a.md", folder / "a.md")]) as (copies, wrong):
        assert copies == [] and "changed while it was read" in wrong[0]


def test_what_is_sent_is_what_was_read(folder):
    with steady([("a.md", folder / "a.md")]) as (copies, wrong):
        (folder / "a.md").write_text("changed")
        assert [(name, path.read_text()) for name, path in copies] == [("a.md", "A")] and wrong == []


@pytest.fixture
def sent(monkeypatch):
    """A gateway, and the bodies it is sent; `locked.md` is a file that cannot be read."""
    bodies = []

    def answer(request):
        bodies.append(request.read())
        return httpx.Response(202, json={"job": {"id": "j"}})

    open_file = Path.open

    def opened(path, *args, **kwargs):
        if path.name == "locked.md":
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", opened)
    return Gateway("http://127.0.0.1:1", httpx.MockTransport(answer)), bodies


def test_an_unreadable_file_is_named_and_the_others_are_sent(folder, sent, capsys):
    gateway, bodies = sent
    (folder / "locked.md").touch()
    assert jobs.send(gateway, "documents", uploads([str(folder)]), {}) == [{"id": "j"}]
    assert "locked.md: cannot be read: Permission denied" in capsys.readouterr().err
    assert len(bodies) == 1 and b"a.md" in bodies[0] and b"b.PDF" in bodies[0] and b"locked" not in bodies[0]


def test_a_history_is_sent_whole_or_not_at_all(folder, sent):
    gateway, bodies = sent
    (folder / "locked.md").touch()
    with pytest.raises(Failed, match=r"locked\.md: cannot be read"):
        jobs.send(gateway, "documents", uploads([str(folder)]), {"history": "true"})
    assert bodies == []


def test_nothing_is_sent_where_nothing_can_be_read(folder, sent):
    gateway, bodies = sent
    with pytest.raises(Failed, match="none of the files"):
        jobs.send(gateway, "documents", [("locked.md", folder / "locked.md"), ("gone.md", folder / "gone.md")], {})
    assert bodies == []


def test_requests_are_divided_even_where_a_file_has_gone(folder):
    batches = list(inputs.requests([("gone.md", folder / "gone.md"), ("a.md", folder / "a.md")], 1, 10))
    assert [name for batch in batches for name, _ in batch] == ["gone.md", "a.md"] and len(batches) == 2
