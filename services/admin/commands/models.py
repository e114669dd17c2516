"""`almanac models`: the model cache of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.admin.context import AsJson, settings

if TYPE_CHECKING:
    from services.common.models import Held, Model, ModelCache

app = typer.Typer(help="The models on this machine.", no_args_is_help=True)

_Names = Annotated[list[str] | None, typer.Argument(help="Models of the manifest; without any, the default ones.")]


@app.command()
def pull(names: _Names = None) -> None:
    """Fetch models into the cache and check every file's SHA-256."""
    manifest, cache = _open()
    unknown = [name for name in names or () if name not in manifest]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: not in the manifest; it has {', '.join(sorted(manifest))}")
    wanted = [manifest[name] for name in names] if names else [one for one in manifest.values() if one.default]
    for model in wanted:
        cache.pull(model, lambda line: typer.echo(line))


@app.command(name="list")
def list_models(as_json: AsJson = False) -> None:
    """Show the models of the manifest, and where those that are here lie."""
    from services.admin.render import print_json, table

    manifest, cache = _open()
    held = {one.path: one for one in cache.list()}
    rows = [_row(model, cache, held) for model in manifest.values()]
    if as_json:
        print_json({"models": rows})
    else:
        columns = ("name", "kind", "default", "size_bytes", "licence", "about")
        table(
            ("name", "kind", "default", "bytes here", "licence", "about"), [[row[c] for c in columns] for row in rows]
        )


def _row(model: Model, cache: ModelCache, held: dict[Path, Held]) -> dict[str, object]:
    from services.common.errors import ModelNotFound

    try:
        path = cache.path(model)
    except ModelNotFound:
        path = None
    return {
        "name": model.name,
        "kind": model.kind.value,
        "default": model.default,
        "licence": model.licence,
        "about": model.about,
        "path": str(path) if path else None,
        "size_bytes": held[path].size_bytes if path in held else 0,
    }


def _open() -> tuple[dict[str, Model], ModelCache]:
    from services.common.models import ModelCache, load_manifest

    own = settings()
    assert own.models_dir is not None  # Settings fills it in
    return load_manifest(own.models_manifest), ModelCache(own.models_dir)
