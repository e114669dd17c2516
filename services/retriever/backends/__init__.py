"""Index engines, one module each, imported only when chosen: `engine(settings)` opens it."""

from __future__ import annotations

import importlib
import pkgutil

from services.common.errors import NotFound
from services.retriever.backends.base import Engine
from services.retriever.settings import RetrieverSettings

_HELPERS = ("base", "durable", "process", "residency", "rows")


def open_engine(settings: RetrieverSettings) -> Engine:
    """The engine the settings name. Raises NotFound for a name that is none."""
    name = settings.retriever_backend
    if name not in names():
        raise NotFound(f"no retriever backend is called {name!r}; choose one of {', '.join(names())}")
    opened: Engine = importlib.import_module(f"{__name__}.{name}").engine(settings)
    return opened


def names() -> list[str]:
    """Every backend there is: a module of this package, or a package in it."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _HELPERS)
