"""/ and /docs: pages that need nothing but this gateway."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

router = APIRouter(include_in_schema=False)

_STATIC = Path(__file__).parent.parent / "static"
_SHOWN = {"/": "index.html", "/docs": "docs.html"}
_BESIDE = ("style.css", "docs.js")


def _serve(path: str, file: Path) -> None:
    async def page() -> FileResponse:
        return FileResponse(file)

    router.add_api_route(path, page, methods=["GET", "HEAD"])


for _path, _name in _SHOWN.items():
    _serve(_path, _STATIC / _name)
for _name in _BESIDE:
    _serve(f"/static/{_name}", _STATIC / _name)
