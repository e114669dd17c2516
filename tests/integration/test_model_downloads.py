"""Downloads from a hub that breaks off, lies and changes its mind, and disks that are full."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from services.common import downloads, model_sources
from services.common.errors import DiskFull, ModelCorrupt, Unavailable
from services.common.models import Model, ModelCache

WEIGHTS = random.Random(7).randbytes(3 << 20)
REVISION = "c" * 40


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Hub(ThreadingHTTPServer):
    """A file. `cut`: bytes after which a response breaks off (0: never); after `good_for` responses none has any."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.told_size = WEIGHTS, 0, len(WEIGHTS)
        self.good_for = 1000
        self.offsets: list[int] = []

    def handle_error(self, *_: Any) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        etag = f'"{sha256(self.server.content)[:16]}"'
        changed = self.headers.get("If-Range", etag) != etag
        start = (
            0 if changed else int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        )
        self.server.offsets.append(start)
        self._head(206 if start else 200, self.server.told_size - start, start)
        body = self.server.content[start:]
        if len(self.server.offsets) > self.server.good_for:
            body = b""
        self.wfile.write(body[: self.server.cut] if self.server.cut else body)

    def _head(self, status: int, length: int, start: int = 0) -> None:
        self.send_response(status)
        etag = f'"{sha256(self.server.content)[:16]}"'
        told = {"ETag": etag, "Content-Length": str(length), "Accept-Ranges": "bytes"}
        if status == 206:
            told["Content-Range"] = f"bytes {start}-{self.server.told_size - 1}/{self.server.told_size}"
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(downloads, "_WAIT_SECONDS", 0.0)
        yield server
        server.shutdown()


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    return ModelCache(tmp_path / "models")


def model(size: int = len(WEIGHTS), content: bytes = WEIGHTS) -> Model:
    source = f"owner/tiny@{REVISION}"
    file = {"name": "model.bin", "path": "weights.bin", "sha256": sha256(content), "size": size, "hub": source}
    return Model.model_validate({"name": "tiny", "kind": "generator", "licence": "MIT", "files": [file]})


def visible(cache: ModelCache) -> list[str]:
    return [held.name for held in cache.list()]


def test_a_download_that_breaks_off_is_gone_on_with_where_it_stood(hub: Hub, cache: ModelCache) -> None:
    hub.cut, hub.good_for = 1 << 19, 3
    with pytest.raises(Unavailable, match=rf"weights.bin of owner/tiny@c+ could not be downloaded.*{3 << 19} bytes"):
        cache.pull(model())
    assert visible(cache) == [] and hub.offsets[:3] == [0, 1 << 19, 2 << 19]
    hub.cut, hub.good_for, asked = 0, 1000, len(hub.offsets)
    place = cache.pull(model())
    assert (place / "model.bin").read_bytes() == WEIGHTS
    assert hub.offsets[asked:] == [3 << 19], "what had come was asked for again"
    assert [path.name for path in place.parents[1].iterdir()] == ["tiny"], "what came in parts is left behind"


def test_what_changed_between_two_tries_is_fetched_from_its_beginning(hub: Hub, cache: ModelCache) -> None:
    hub.content, hub.cut, hub.good_for = bytes(len(WEIGHTS)), 1 << 20, 1
    with pytest.raises(Unavailable):
        cache.pull(model())
    hub.content, hub.cut, hub.good_for = WEIGHTS, 0, 1000
    assert (cache.pull(model()) / "model.bin").read_bytes() == WEIGHTS


def test_a_hub_that_lies_about_the_size_is_found_out(hub: Hub, cache: ModelCache) -> None:
    hub.told_size = len(WEIGHTS) - 1000
    with pytest.raises((ModelCorrupt, Unavailable)):
        cache.pull(model())
    assert visible(cache) == []
    hub.told_size = len(WEIGHTS)
    assert (cache.pull(model()) / "model.bin").read_bytes() == WEIGHTS


def test_what_changed_at_the_hub_is_refused_and_not_taken_for_the_file_later(hub: Hub, cache: ModelCache) -> None:
    hub.content = bytes(len(WEIGHTS))
    with pytest.raises(ModelCorrupt, match=f"model.bin.*SHA-256 {sha256(hub.content)}, not {sha256(WEIGHTS)}"):
        cache.pull(model())
    assert visible(cache) == []
    hub.content = WEIGHTS
    assert (cache.pull(model()) / "model.bin").read_bytes() == WEIGHTS


def test_a_file_of_another_size_than_the_manifest_says_is_refused_by_its_size(hub: Hub, cache: ModelCache) -> None:
    with pytest.raises(ModelCorrupt, match=rf"{len(WEIGHTS)} bytes, not 7"):
        cache.pull(model(size=7))


def test_without_room_nothing_is_fetched_and_the_error_says_how_much_and_where(
    hub: Hub, cache: ModelCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil._ntuple_diskusage(10 << 20, 9 << 20, 1 << 20)
    monkeypatch.setattr(model_sources.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFull) as caught:
        cache.pull(model())
    for part in ("tiny needs 3 MiB", str(tmp_path / "models"), "1 MiB are free", "ALMANAC_MODELS_DIR"):
        assert part in caught.value.detail
    assert hub.offsets == [] and visible(cache) == []


def test_a_disk_that_fills_up_while_copying_is_told_clearly(
    cache: ModelCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.bin").write_bytes(WEIGHTS)
    file = {"name": "m.bin", "path": "weights.bin", "sha256": sha256(WEIGHTS), "directory": tmp_path}
    entry = {"name": "tiny", "kind": "generator", "licence": "MIT", "files": [file]}
    monkeypatch.setattr(model_sources.Fetching, "_target", lambda *_: Path("/dev/full"))
    with pytest.raises(DiskFull, match="tiny needs more at"):
        cache.pull(Model.model_validate(entry))
    assert visible(cache) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no filesystem may be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up_while_the_hub_sends_is_told_clearly(hub: Hub, small_disk: Path) -> None:
    cache = ModelCache(small_disk / "models")
    with pytest.raises(DiskFull, match="MiB are free"):
        cache.pull(model(size=0))
    assert visible(cache) == []
