"""/ and /docs: pages that need nothing but this gateway, and the files beside them."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

router = APIRouter(include_in_schema=False)

_STATIC = Path(__file__).parent.parent / "static"
_SHOWN = {"/": "index.html", "/docs": "docs.html"}
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".html": "text/html"}
"""What is served, by suffix: said here, for the machine's own table of types may say otherwise."""


def _serve(path: str, file: Path) -> None:
    async def page() -> FileResponse:
        return FileResponse(file, headers={"Cache-Control": "no-cache"}, media_type=_KINDS[file.suffix])

    router.add_api_route(path, page, methods=["GET", "HEAD"])


for _path, _name in _SHOWN.items():
    _serve(_path, _STATIC / _name)
for _file in sorted(_STATIC.rglob("*")):
    if _file.suffix in _KINDS and _file.suffix != ".html":
        _serve(f"/static/{_file.relative_to(_STATIC).as_posix()}", _file)
