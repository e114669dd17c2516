"""Vector files in a directory and in object storage: the same promises, against a real S3-compatible server."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from services.catalog.engine import Database
from services.catalog.orphans import sweep_orphans
from services.catalog.tables import vector_files
from services.catalog.vectors import VectorFiles
from services.common.errors import Unavailable
from services.common.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default::DeprecationWarning")]

ITEMS = [f"item-{number}" for number in range(300)]
VECTORS = np.random.default_rng(0).normal(size=(300, 384)).astype(np.float32)


@pytest.fixture(scope="module")
def bucket():
    """The URL of a prefix in a fresh bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "almanac",
        "AWS_SECRET_ACCESS_KEY": "almanac",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("almanac")
        yield "s3://almanac/vectors"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(params=["directory", "s3"])
def location(request, tmp_path) -> str:
    if request.param == "directory":
        return str(tmp_path / "vectors")
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


def test_what_was_written_is_read(location):
    files = VectorFiles(location)
    files.write("one", ITEMS, VECTORS)
    found = VectorFiles(location).read("one")
    assert list(found) == ITEMS and np.array_equal(np.stack(list(found.values())), VECTORS)
    gathered = dict(files.gather({"item-7": "one", "item-2": "one"}, 384))
    assert np.array_equal(gathered["item-7"], VECTORS[7]) and len(gathered) == 2


def test_a_file_that_is_gone_is_said_to_be(location):
    files = VectorFiles(location)
    files.write("one", ITEMS, VECTORS)
    assert files.exists("one") and not files.exists("two")
    files.remove("one")
    files.remove("one")
    assert not files.exists("one")
    with pytest.raises(Unavailable, match="vector file one is gone"):
        files.read("one")


def test_orphans_are_swept_once_they_are_old(location, tmp_path):
    files = VectorFiles(location)
    for name in ("named", "orphan"):
        files.write(name, ITEMS, VECTORS)
    catalog = Database(f"sqlite:///{tmp_path / 'catalog.db'}")
    with catalog.write() as tx:
        tx.execute(vector_files.insert().values(file_id="named", encoder="e", rows=300))
    assert sweep_orphans(catalog, files) == 0 and sorted(files.settled(-5)) == ["named", "orphan"]
    assert sweep_orphans(catalog, files, -5) == 1 and files.settled(-5) == ["named"]
    assert sweep_orphans(catalog, files, -5) == 0
    catalog.close()


def test_what_a_dead_writer_left_is_swept(tmp_path):
    files = VectorFiles(tmp_path)
    left = tmp_path / "half.parquet.partial"
    left.write_bytes(b"PAR1")
    assert files.settled(-5) == [] and files.remove_broken(3600) == 0
    os.utime(left, (time.time() - 7200,) * 2)
    assert files.remove_broken(3600) == 1 and not left.exists()


def test_storage_that_does_not_answer_is_unavailable(bucket, monkeypatch):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(Unavailable, match="object storage"):
        VectorFiles("s3://almanac/vectors").write("one", ITEMS, VECTORS)
    s3fs.S3FileSystem.clear_instance_cache()


def test_the_setting_takes_a_url_or_a_directory(monkeypatch, tmp_path):
    assert Settings(vectors_dir="s3://bucket/prefix").vectors_dir == "s3://bucket/prefix"
    monkeypatch.chdir(tmp_path)
    assert Settings(vectors_dir="here").vectors_dir == str(tmp_path / "here")
    assert Settings(home=Path("home")).vectors_dir == str(tmp_path / "home" / "vectors")
