"""Backup and restore of a home without processes: real catalogs, real vector files."""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import func, inspect, select
from typer.testing import CliRunner

from pipelines.encode import wanted
from pipelines.erase import LOG, append_tombstone
from services.admin import backup as making
from services.admin.__main__ import app
from services.admin.backup import make
from services.admin.backup_archive import Writer
from services.admin.backup_restore import restore
from services.admin.failures import Failed
from services.admin.settings import AdminSettings
from services.admin.state import Places, locked
from services.catalog import erasing, jobs
from services.catalog.backup import exported
from services.catalog.commit import Recorder, VectorFile
from services.catalog.engine import Database, open_engine
from services.catalog.migrations import schema
from services.catalog.records import DocumentIn, FactIn, Generation, PassageIn
from services.catalog.state import ensure_generation, set_watermark
from services.catalog.tables import fact_extents, generations, versions, watermarks
from services.catalog.vectors import VectorFiles
from services.common.errors import Conflict
from services.common.moment import now

MODEL, TENANT, HERE = "all-MiniLM-L6-v2", "local", "notes"
GENERATION = Generation("g1", MODEL, 8)


class Home:
    """A home's catalog, vector files and uploads."""

    def __init__(self, place, url=""):
        self.settings = AdminSettings(home=place, catalog_url=url)
        self.path, self.files = place, VectorFiles(self.settings.vectors_dir)
        self.catalog = None

    def opened(self):
        self.catalog = Database(self.settings.catalog_url)
        return self

    def record(self, *ids):
        rows = [document(doc_id) for doc_id in ids] + [FactIn(f"Who keeps {ids[0]}?", f"The keeper of {ids[0]}.")]
        items = list(wanted(rows, TENANT, HERE))
        file = VectorFile(f"file-{ids[0]}", MODEL, items)
        self.files.write(file.file_id, items, np.ones((len(items), 8), np.float32))
        with self.catalog.write() as tx:
            ensure_generation(tx, GENERATION)
            recorder = Recorder(tx, TENANT, HERE)
            for row in rows:
                recorder.document(row) if isinstance(row, DocumentIn) else recorder.fact(row)
            set_watermark(tx, "index:g1", TENANT, HERE, recorder.close(file))

    def job(self, name="upload"):
        upload = self.settings.uploads_dir / name / "0000"
        upload.parent.mkdir(parents=True)
        upload.write_bytes(b'{"id": "x"}\n')
        with self.catalog.write() as tx:
            request = {"files": [{"path": str(upload), "name": "a.jsonl"}]}
            return jobs.create(tx, TENANT, HERE, "documents", request, job_id=name)

    def rows(self):
        with self.catalog.read() as tx:
            return {table.name: sorted(map(repr, tx.execute(select(table)).all())) for table in exported()}

    def tombstone(self, doc_id, name="e1"):
        append_tombstone(
            self.path / "since.jsonl", erasing.Erasure(name, TENANT, HERE, doc_id, erasing.DONE, now(), now())
        )
        return self.path / "since.jsonl"


def document(doc_id):
    text = f"About {doc_id}, ünïcode and “quotes”.\n"
    return DocumentIn(doc_id, doc_id, text, passages=(PassageIn(0, ("a", "b"), 0, len(text), text),))


def quiet(*_):
    """No progress."""


@pytest.fixture
def home(tmp_path, catalog_url):
    made = Home(tmp_path / "home", catalog_url).opened()
    made.record("owl", "fox")
    made.record("hare")
    with made.catalog.write() as tx:
        tx.execute(generations.update().values(basis=bytes(range(256))))
    yield made
    made.catalog.close()


@pytest.fixture
def fresh(tmp_path):
    """An empty home with a catalog of its own in SQLite."""
    made = Home(tmp_path / "fresh")
    yield made
    if made.catalog is not None:
        made.catalog.close()


@pytest.mark.parametrize("name", ["backup.tar", "backup"])
def test_a_restored_home_has_the_rows_and_files_that_were_backed_up_and_no_watermark(home, fresh, tmp_path, name):
    manifest = make(home.settings, tmp_path / name, quiet)
    before = home.rows()
    home.record("later")
    restore(fresh.settings, tmp_path / name, None, quiet)
    assert fresh.opened().rows() == before and manifest["tables"]["versions"] == 3
    for file_id in ("file-owl", "file-hare"):
        assert fresh.files.read(file_id).keys() == home.files.read(file_id).keys()
    assert not fresh.files.exists("file-later")
    with fresh.catalog.read() as tx:
        assert tx.execute(select(func.count()).select_from(watermarks)).scalar_one() == 0
    assert not list(tmp_path.glob("*.partial")) and (tmp_path / name).stat().st_mode & 0o077 == 0


def test_a_backup_of_sqlite_restores_into_postgresql_and_recording_goes_on(tmp_path, postgres):
    old = Home(tmp_path / "old").opened()
    old.record("owl", "fox")
    make(old.settings, tmp_path / "b.tar", quiet)
    new = Home(tmp_path / "new", postgres.create())
    restore(new.settings, tmp_path / "b.tar", None, quiet)
    assert new.opened().rows() == old.rows()
    new.record("hare")  # its numbered rows come after the restored ones
    with new.catalog.read() as tx:
        assert tx.execute(select(func.count()).select_from(fact_extents)).scalar_one() == 2
    with pytest.raises(Conflict, match="not empty"):
        restore(Home(tmp_path / "other", new.settings.catalog_url).settings, tmp_path / "b.tar", None, quiet)
    assert not list((tmp_path / "other").rglob("*.parquet"))
    old.catalog.close()
    new.catalog.close()


@pytest.fixture
def small(tmp_path):
    made = Home(tmp_path / "home").opened()
    made.record("owl")
    yield made
    made.catalog.close()


def test_the_backup_is_of_one_moment_while_documents_are_recorded(small, fresh, tmp_path):
    recorded = iter(range(100))

    def record(what, done, total):
        if what == "tables" and done in (1, total // 2):
            small.record(f"during-{next(recorded)}")

    manifest = make(small.settings, tmp_path / "b.tar", record)
    assert manifest["tables"]["versions"] == manifest["tables"]["version_extents"] == 1 < next(recorded)
    restore(fresh.settings, tmp_path / "b.tar", None, quiet)
    assert [one.split("'")[1] for one in fresh.opened().rows()["vector_files"]] == ["file-owl"]


def test_a_vector_file_that_an_erasure_replaces_meanwhile_is_neither_copied_nor_missed(small, fresh, tmp_path):
    small.record("fox")

    def replace(what, done, total):
        if what == "tables" and done == total and small.files.exists("file-owl"):
            held = small.files.read("file-owl")
            kept = list(held)[1:]
            small.files.write("file-new", kept, np.stack([held[item] for item in kept]))
            with small.catalog.write() as tx:
                erasing.file_moved(tx, "file-owl", "file-new", kept)
                erasing.file_gone(tx, "file-owl")
            small.files.remove("file-owl")

    make(small.settings, tmp_path / "b.tar", replace)
    with tarfile.open(tmp_path / "b.tar") as tar:
        names = [name for name in tar.getnames() if name.startswith("vectors/")]
    assert names == ["vectors/file-fox.parquet", "vectors/file-new.parquet"]
    restore(fresh.settings, tmp_path / "b.tar", None, quiet)
    assert fresh.opened().rows() == small.rows()


def test_uploads_of_unfinished_jobs_come_along_and_are_found_in_the_new_home(small, fresh, tmp_path):
    small.job("waiting")
    done = small.job("done")
    with small.catalog.write() as tx:
        jobs.finish(tx, done.job_id, jobs.DONE)
    make(small.settings, tmp_path / "b.tar", quiet)
    restore(fresh.settings, tmp_path / "b.tar", None, quiet)
    with fresh.opened().catalog.read() as tx:
        [file] = jobs.by_id(tx, "waiting").request["files"]
        [gone] = jobs.by_id(tx, "done").request["files"]
    assert file["path"] == str(fresh.settings.uploads_dir / "waiting" / "0000")
    assert Path(file["path"]).read_bytes() == b'{"id": "x"}\n'
    assert Path(gone["path"]).is_relative_to(fresh.path) and not Path(gone["path"]).exists()


def test_a_job_that_ends_while_its_upload_is_copied_is_in_the_backup_as_ended(small, tmp_path, monkeypatch):
    small.job("waiting")
    copy = shutil.copyfile

    def end_and_copy(source, target):
        if "waiting" in str(source):
            with small.catalog.write() as tx:
                jobs.finish(tx, "waiting", jobs.DONE)
            shutil.rmtree(small.settings.uploads_dir / "waiting")
        return copy(source, target)

    monkeypatch.setattr(making.shutil, "copyfile", end_and_copy)
    make(small.settings, tmp_path / "b", quiet)
    assert not (tmp_path / "b" / "uploads").exists()


def test_what_was_erased_since_is_asked_for_again_and_no_job_brings_it_back(small, fresh, tmp_path):
    small.job("waiting")
    make(small.settings, tmp_path / "b.tar", quiet)
    done = restore(fresh.settings, tmp_path / "b.tar", small.tombstone("owl"), quiet)
    with fresh.opened().catalog.read() as tx:
        assert erasing.under_way(tx, TENANT, HERE) == {"owl"} and len(done.erased) == 1
        assert jobs.by_id(tx, "waiting").state == jobs.CANCELLED and done.cancelled == ["waiting"]
    assert not (fresh.settings.uploads_dir / "waiting").exists()
    assert json.loads((fresh.path / LOG).read_text())["doc_id"] == "owl"


def test_an_erasure_of_a_document_that_still_waited_in_an_upload_keeps_it_out(small, fresh, tmp_path):
    small.job("waiting")
    make(small.settings, tmp_path / "b.tar", quiet)
    done = restore(fresh.settings, tmp_path / "b.tar", small.tombstone("x"), quiet)
    assert (done.erased, done.cancelled) == ([], ["waiting"])


def test_an_erasure_that_the_backup_knows_cancels_nothing(small, fresh, tmp_path):
    small.job("waiting")
    with small.catalog.write() as tx:
        jobs.finish(tx, "waiting", jobs.DONE)
        erasure = erasing.ask(tx, TENANT, HERE, "owl").job_id
    small.job("later")
    make(small.settings, tmp_path / "b.tar", quiet)
    done = restore(fresh.settings, tmp_path / "b.tar", small.tombstone("owl", erasure), quiet)
    assert (done.erased, done.cancelled) == ([erasure], [])


def test_a_damaged_backup_is_named_and_leaves_the_home_empty(small, fresh, tmp_path):
    make(small.settings, tmp_path / "b", quiet)
    (tmp_path / "b" / "vectors" / "file-owl.parquet").write_bytes(b"rotten")
    with pytest.raises(Failed, match=r"damaged: vectors/file-owl\.parquet"):
        restore(fresh.settings, tmp_path / "b", None, quiet)
    assert not (fresh.path / "catalog.db").exists() and not list(fresh.path.rglob("*.parquet"))


def test_a_restore_that_fails_half_way_leaves_the_home_to_be_restored_into(small, fresh, tmp_path):
    make(small.settings, tmp_path / "b", quiet)
    told = json.loads((tmp_path / "b" / "manifest.json").read_text())
    for change, said in (({"schema": "9999"}, "newer than this"), ({"tables": {"versions": 7}}, "not the 7")):
        (tmp_path / "b" / "manifest.json").write_text(json.dumps(told | change))
        with pytest.raises((Failed, Conflict), match=said):
            restore(fresh.settings, tmp_path / "b", None, quiet)
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(told))
    restore(fresh.settings, tmp_path / "b", None, quiet)
    assert fresh.opened().rows() == small.rows()


def test_a_home_with_something_in_it_or_a_running_stack_is_refused(small, fresh, tmp_path):
    make(small.settings, tmp_path / "b.tar", quiet)
    with pytest.raises(Failed, match="not empty"):
        restore(small.settings, tmp_path / "b.tar", None, quiet)
    with locked(Places(fresh.path), "http://x"), pytest.raises(Failed, match="already runs"):
        restore(fresh.settings, tmp_path / "b.tar", None, quiet)


def columns_of(revision, place):
    """The columns of every table of a schema."""
    engine = open_engine(f"sqlite:///{place}")
    with engine.connect().execution_options(writes=True) as tx, tx.begin():
        schema.upgrade(tx, revision)
        seen = inspect(tx)
        found = {name: {column["name"] for column in seen.get_columns(name)} for name in seen.get_table_names()}
    engine.dispose()
    return found


def test_an_older_schema_is_restored_and_brought_up_to_date(fresh, tmp_path, small):
    make(small.settings, tmp_path / "b", quiet)
    older, told = columns_of("0001", tmp_path / "older.db"), json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert told["tables"].keys() - older.keys()
    told["tables"] = {name: rows for name, rows in told["tables"].items() if name in older}
    for name in told["tables"]:
        path = tmp_path / "b" / "catalog" / f"{name}.jsonl.zst"
        with pa.input_stream(str(path), compression="zstd") as stream:
            rows = [json.loads(line) for line in stream.read().splitlines()]
        with pa.output_stream(str(path), compression="zstd") as sink:
            for row in rows:
                sink.write(json.dumps({key: row[key] for key in row.keys() & older[name]}).encode() + b"\n")
        told["files"][f"catalog/{path.name}"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(told | {"schema": "0001"}))
    restore(fresh.settings, tmp_path / "b", None, quiet)
    with fresh.opened().catalog.read() as tx:
        assert tx.execute(select(versions.c.doc_id)).scalars().all() == ["owl"]
        assert schema.current(tx) == schema.revisions()[-1]


def test_a_home_without_a_catalog_is_not_backed_up_and_none_is_made(fresh, tmp_path):
    with pytest.raises(Failed, match="no catalog"):
        make(fresh.settings, tmp_path / "b.tar", quiet)
    assert not (fresh.path / "catalog.db").exists()


def test_a_full_disk_is_told_and_nothing_stays_behind(small, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(making, "export_table", full)
    with pytest.raises(Failed, match="no room"):
        make(small.settings, tmp_path / "b.tar", quiet)
    assert not list(tmp_path.glob("b.tar*"))


def test_giving_up_removes_everything_though_the_archive_cannot_even_be_closed(tmp_path):
    writer = Writer(tmp_path / "b.tar")
    archive = next(writer.work.glob("b.tar"))
    writer._tar.fileobj.close()
    writer._tar.fileobj = Path("/dev/full").open("wb")  # noqa: SIM115
    writer._tar.fileobj.write(b"held back")
    writer.give_up()
    assert not archive.exists() and not list(tmp_path.iterdir())


def test_the_commands_tell_what_they_did_and_refuse_clearly(small, tmp_path, monkeypatch):
    monkeypatch.setenv("ALMANAC_HOME", str(small.path))
    target = str(tmp_path / "b.tar")
    done = CliRunner().invoke(app, ["backup", target])
    assert done.exit_code == 0 and MODEL in done.stdout and "schema" in done.stdout, done.output
    again = CliRunner().invoke(app, ["backup", target])
    assert again.exit_code == 1 and "exists already" in again.stderr
    done = CliRunner().invoke(app, ["restore", target, "--home", str(tmp_path / "fresh"), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["tables"]["versions"] == 1, done.output
    again = CliRunner().invoke(app, ["restore", target, "--home", str(tmp_path / "fresh")])
    assert again.exit_code == 1 and "not empty" in again.stderr
