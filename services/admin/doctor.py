"""What may be wrong with a home and its machine, whether a stack runs or not, and what to do about it."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from services.admin.settings import AdminSettings
from services.admin.state import Places
from services.catalog.engine import open_engine
from services.catalog.migrations import schema
from services.common.errors import AlmanacError, ModelNotFound
from services.common.models import Model, ModelCache, ModelFile, ModelKind, find, load_manifest

_LEAST_PYTHON, _BEYOND_PYTHON = (3, 11), (3, 13)
_GIB = 1 << 30
_FULL, _SCARCE = 1 * _GIB, 5 * _GIB


class Verdict(StrEnum):
    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, what was found, and what to do where it is not well."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def well(name: str, found: str) -> Finding:
    return Finding(name, Verdict.OK, found)


def note(name: str, found: str, remedy: str = "") -> Finding:
    return Finding(name, Verdict.NOTE, found, remedy)


def wrong(name: str, found: str, remedy: str) -> Finding:
    return Finding(name, Verdict.WRONG, found, remedy)


def python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    found = ".".join(map(str, version))
    if _LEAST_PYTHON <= version < _BEYOND_PYTHON:
        return well("python", found)
    return wrong("python", found, "install Almanac into Python 3.11 or 3.12")


def disk(own: AdminSettings) -> Iterator[Finding]:
    """Of the home and the model cache, each where it will lie."""
    for name, path in (("disk of the home", own.home), ("disk of the models", own.models_dir)):
        free = shutil.disk_usage(_existing(path)).free
        said = f"{free / _GIB:.1f} GiB free at {path}"
        if free < _FULL:
            yield wrong(name, said, "make room: less than 1 GiB is left")
        else:
            yield note(name, said, "make room before a large corpus") if free < _SCARCE else well(name, said)


def home(own: AdminSettings) -> Finding:
    """Its owner, its permissions, and those of the key in it."""
    place = own.home
    if not place.exists():
        return note("home", f"{place} is not there yet", "`almanac up` makes it")
    found = place.stat()
    if found.st_uid != os.getuid() or not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        return wrong("home", f"{place} is not yours to write to", f"chown it, or run as uid {found.st_uid}")
    if found.st_mode & stat.S_IWOTH:
        return wrong("home", f"everybody may write to {place}", f"chmod o-w {place}")
    key = Places(place).key
    if key.exists() and key.stat().st_mode & 0o077:
        return wrong("home", f"others may read {key}", f"chmod 600 {key}")
    return well("home", str(place))


def leftovers(own: AdminSettings) -> Finding:
    """What a stack that was killed left behind. To be asked only where none runs."""
    sockets = own.run_dir.glob("*.sock") if own.run_dir.exists() else ()
    left = [path for path in (Places(own.home).state, *sockets) if path.exists()]
    if not left:
        return well("leftovers", "none")
    names = ", ".join(path.name for path in left)
    return note("leftovers", f"{names} in {left[0].parent}, of a stack that was killed", "`almanac up` replaces them")


def models(own: AdminSettings) -> Iterator[Finding]:
    """The encoder of new generations and the default models: whether they are here, and every hash."""
    assert own.models_dir is not None  # Settings fills it in
    try:
        manifest = load_manifest(own.models_manifest)
        needed = find(manifest, own.encoder_model, ModelKind.ENCODER)
    except AlmanacError as error:
        yield wrong("models", error.detail, "correct ALMANAC_MODELS_MANIFEST or ALMANAC_ENCODER_MODEL")
        return
    wanted = {needed.name: needed} | {model.name: model for model in manifest.values() if model.default}
    for model in wanted.values():
        yield _model(ModelCache(own.models_dir), model, model is needed)


def _model(cache: ModelCache, model: Model, is_needed: bool) -> Finding:
    name, pull = f"model {model.name}", f"almanac models pull {model.name}"
    try:
        place = cache.path(model)
    except ModelNotFound as error:
        return wrong(name, error.detail, pull) if is_needed else note(name, "not pulled", f"if it is used: {pull}")
    bad = [file.name for file in model.files if not _is_whole(place, file)]
    return wrong(name, f"{', '.join(bad)}: another SHA-256 than the manifest's", pull) if bad else well(name, "whole")


def _is_whole(place: Path, file: ModelFile) -> bool:
    with (place / file.name).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256


def catalog(own: AdminSettings) -> Finding:
    """Whether it can be opened, and its schema. Changes nothing."""
    url = make_url(own.catalog_url)
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return note("catalog", f"{shown} is not there yet", "the first start makes it")
    engine = open_engine(own.catalog_url)
    try:
        with engine.connect() as connection:
            found = schema.current(connection)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).strip()
        return wrong("catalog", f"{shown}: {reason}", "start the database, or correct ALMANAC_CATALOG_URL")
    except AlmanacError as error:
        return wrong("catalog", error.detail, "use the Almanac that made it, or a newer one")
    finally:
        engine.dispose()
    newest = schema.revisions()[-1]
    if found != newest:
        return note("catalog", f"schema {found or 'none'}, this Almanac has {newest}", "almanac migrate")
    return well("catalog", f"schema {found}")


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())
