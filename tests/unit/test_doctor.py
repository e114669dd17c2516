"""`almanac doctor`: what it finds wrong, and that it says what to do."""

import asyncio
import hashlib
import json
import socket

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from services.admin import doctor, doctor_stack
from services.admin.__main__ import app
from services.admin.doctor import Verdict
from services.admin.settings import AdminSettings
from services.admin.state import Places, ProcessState, StackState, locked, write_state
from services.catalog.engine import Database, open_engine
from services.catalog.ledger import Ledger
from services.catalog.records import Generation
from services.catalog.state import VIEWS, ensure_generation, index_reader, set_watermark, view_reader
from services.catalog.tables import collections
from tests.support import free_port

CONTENT = b"weights"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Settings of a home that is not there yet, with a model cache that is whole."""
    manifest = tmp_path / "models.toml"
    digest = hashlib.sha256(CONTENT).hexdigest()
    manifest.write_text(
        '[[model]]\nname = "tiny"\nkind = "encoder"\nlicence = "MIT"\ndefault = true\ndimensions = 8\nmax_tokens = 16\n'
        f'files = [{{ name = "w.bin", path = "w.bin", sha256 = "{digest}", directory = "{tmp_path}" }}]\n'
    )
    (tmp_path / "w.bin").write_bytes(CONTENT)
    given = {
        "ALMANAC_HOME": tmp_path / "home",
        "ALMANAC_PORT": free_port(),
        "ALMANAC_MODELS_DIR": tmp_path / "models",
        "ALMANAC_MODELS_MANIFEST": manifest,
        "ALMANAC_ENCODER_MODEL": "tiny",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    return AdminSettings()


def pulled(own):
    from services.common.models import ModelCache, load_manifest

    return ModelCache(own.models_dir).pull(load_manifest(own.models_manifest)["tiny"]) / "w.bin"


def run():
    done = CliRunner().invoke(app, ["doctor", "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == (0 if told["well"] else 1), done.output
    return {one["name"]: one for one in told["findings"]}


def test_before_the_first_start_a_machine_with_its_models_is_well(own):
    pulled(own)
    found = run()
    assert {"python", "disk of the home", "home", "model tiny", "catalog", "stack", "port"} <= found.keys()
    assert all(one["verdict"] != "wrong" for one in found.values()), found
    assert not own.home.exists()


def test_a_model_that_is_missing_or_damaged_is_wrong_and_the_remedy_pulls_it(own):
    assert run()["model tiny"]["remedy"] == "almanac models pull tiny"
    pulled(own).write_bytes(b"rotten")
    found = run()["model tiny"]
    assert found["verdict"] == "wrong" and "SHA-256" in found["found"] and found["remedy"] == "almanac models pull tiny"


def test_a_port_that_somebody_listens_at_is_wrong_and_named(own):
    with socket.create_server(("127.0.0.1", own.port)):
        found = doctor_stack.port(own)
    assert found.verdict is Verdict.WRONG and str(own.port) in found.found and "--port" in found.remedy


def test_permissions_that_let_others_in_are_wrong(own):
    own.home.mkdir(mode=0o700)
    assert doctor.home(own).verdict is Verdict.OK
    Places(own.home).key.write_text("secret")
    Places(own.home).key.chmod(0o644)
    assert doctor.home(own).remedy.startswith("chmod 600")
    own.home.chmod(0o777)
    assert doctor.home(own).remedy.startswith("chmod o-w")


def test_what_a_killed_stack_left_is_noted(own):
    write_state(Places(own.home), StackState(1, own.port, "http://x"))
    found = doctor.leftovers(own)
    assert found.verdict is Verdict.NOTE and "state.json" in found.found


def test_python_of_another_version_and_a_disk_that_is_full_are_wrong(own, monkeypatch):
    assert doctor.python((3, 10, 1)).verdict is doctor.python((3, 13, 0)).verdict is Verdict.WRONG
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    assert all(one.verdict is Verdict.WRONG for one in doctor.disk(own))


def test_a_schema_of_a_later_almanac_is_wrong_and_none_is_only_noted(own):
    Database(own.catalog_url).close()
    assert doctor.catalog(own).verdict is Verdict.OK
    engine = open_engine(own.catalog_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    assert "newer" in doctor.catalog(own).found and doctor.catalog(own).verdict is Verdict.WRONG
    away = own.model_copy(update={"catalog_url": "postgresql+psycopg://almanac:hidden@/x?host=/nowhere"})
    found = doctor.catalog(away)
    assert found.verdict is Verdict.WRONG and "hidden" not in found.found


def test_a_stack_whose_processes_do_not_answer_is_wrong_one_by_one(own):
    pulled(own)
    places = Places(own.home)
    Database(own.catalog_url).close()
    with locked(places, "http://x"):
        state = StackState(1, own.port, own.url_at(own.port), True, {"worker": ProcessState(restarts=3)})
        write_state(places, state)
        found = run()
    broken = {name for name, one in found.items() if one["verdict"] == "wrong"}
    assert broken == {"encoder", "retriever", "features", "generator", "broker", "gateway"}
    assert all(found[name]["remedy"] for name in broken) and "3 times" in found["process worker"]["found"]


def test_a_broker_elsewhere_that_does_not_answer_is_wrong_without_its_password(own):
    away = own.model_copy(update={"broker_url": f"redis://:hidden@127.0.0.1:{free_port()}/0"})
    found = asyncio.run(doctor_stack.broker(away))
    assert found.verdict is Verdict.WRONG and "hidden" not in found.found


def test_a_reader_that_is_behind_for_more_than_a_minute_is_named(own):
    catalog = Database(own.catalog_url)
    with catalog.write() as tx:
        ensure_generation(tx, Generation("g1", "tiny", 8))
        newest = Ledger(tx, "local", "notes").close()
        for reader in (index_reader("g1"), *map(view_reader, VIEWS[1:])):
            set_watermark(tx, reader, "local", "notes", newest)
    [found] = doctor_stack.readers(own)
    assert found.verdict is Verdict.OK
    with catalog.write() as tx:
        early = {"created_at": 1, "recorded_at": newest - 120_000_000}
        tx.execute(update(collections).values(early))
    catalog.close()
    [found] = doctor_stack.readers(own)
    assert found.name == f"reader {view_reader(VIEWS[0])}" and found.verdict is Verdict.WRONG and "notes" in found.found
