"""The model cache: files named by a manifest, fetched from their source, kept only if their SHA-256 is right.

A model lies in `CACHE/NAME/DIGEST/`, where the digest covers all its hashes: a manifest that changes a file names
another directory, and a process that has the old one open keeps it. It appears there whole, by one rename.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.common.disk import bytes_under
from services.common.errors import InvalidRequest, ModelNotFound

PACKAGED = Path(__file__).with_name("models.toml")
_INCOMING = ".incoming-"
_PARTIAL = ".partial-"
"""What has come so far of a hub's files; the next pull goes on with it."""
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
    size: int = Field(0, ge=0, description="Bytes; 0: not told, and then room is not looked for beforehand.")
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
        return [Held(place.parent.name, place, bytes_under(place)) for place in places]

    def pull(self, model: Model, progress: Progress | None = None) -> Path:
        """Fetch the model unless it is here and whole; returns its directory.

        Raises ModelCorrupt for a file of another size or hash (nothing is placed), DiskFull, before anything is
        fetched where that can be told, Unavailable where a source cannot be read; what a hub has sent is then kept.
        """
        from services.common.model_sources import Fetching

        say = progress or (lambda line: None)
        place = self._place(model)
        if _whole(place, model):
            say(f"{model.name}: already here")
            return place
        partial = self._root / f"{_PARTIAL}{model.digest}"
        with self._incoming() as stage, _alone(partial):
            if not _whole(place, model):
                Fetching(model, stage, partial, say).run()
                _put(stage / "model", place, stage)
            shutil.rmtree(partial)
        say(f"{model.name}: ready in {place}")
        return place

    def _place(self, model: Model) -> Path:
        return self._root / model.name / model.digest

    @contextmanager
    def _incoming(self) -> Iterator[Path]:
        """A scratch directory on the cache's own filesystem, so that placing is one rename."""
        self._root.mkdir(parents=True, exist_ok=True)
        for left in (*self._root.glob(f"{_INCOMING}*"), *self._root.glob(f"{_PARTIAL}*")):
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_INCOMING, dir=self._root) as stage:
            yield Path(stage)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """The directory, to this process alone until the end; whoever waited for it finds the work done."""
    with _locked(place):
        try:
            yield
        finally:
            with suppress(OSError):
                place.rmdir()


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    while True:
        with suppress(FileNotFoundError):
            place.mkdir(parents=True, exist_ok=True)
            opened = os.open(place, os.O_RDONLY)
            break
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        if os.fstat(opened).st_nlink:
            yield
        else:
            with _locked(place):
                yield
    finally:
        os.close(opened)


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


def _whole(place: Path, model: Model) -> bool:
    return all(_hash(place / file.name) == file.sha256 for file in model.files)


def _hash(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
