"""Whose an adapter is, and that one is loaded once and never taken away in use."""

from __future__ import annotations

import asyncio

import pytest

from services.common.errors import Conflict, ModelNotFound, Unavailable
from services.generator.adapters import AdapterEntry, check, names_for
from services.generator.residency.holding import OnDemand
from services.generator.settings import GeneratorSettings

ENTRIES = GeneratorSettings(
    generator_adapters={"terse": "/adapters/terse", "legal": {"source": "/adapters/legal", "tenants": ["acme"]}}
).generator_adapters


class Engine:
    """Remembers what it is told; loading takes a moment."""

    def __init__(self, fails: int = 0) -> None:
        self.told: list[tuple[str, str]] = []
        self._fails = fails

    async def load(self, name: str) -> None:
        await asyncio.sleep(0.005)
        self._fails -= 1
        if self._fails >= 0:
            raise Unavailable("no such directory")
        self.told.append(("load", name))

    async def unload(self, name: str) -> None:
        self.told.append(("unload", name))

    async def pin(self, name: str) -> None:
        self.told.append(("pin", name))

    def adapters(self, pins: int = 1) -> OnDemand:
        return OnDemand(self.load, self.unload, self.pin, pins)


def test_a_bare_source_serves_every_tenant_and_an_entry_those_it_names():
    assert ENTRIES["terse"] == AdapterEntry(source="/adapters/terse")
    assert names_for("acme", ENTRIES) == ["terse", "legal"]
    assert names_for("other", ENTRIES) == names_for("", ENTRIES) == ["terse"]


def test_another_tenants_adapter_and_one_there_is_none_of_are_refused_in_the_same_words():
    check("acme", "legal", ENTRIES)
    with pytest.raises(ModelNotFound) as hidden:
        check("other", "legal", ENTRIES)
    with pytest.raises(ModelNotFound) as missing:
        check("other", "medic", ENTRIES)
    assert hidden.value.detail.replace("legal", "medic") == missing.value.detail


async def test_many_at_once_load_it_once():
    engine = Engine()
    adapters = engine.adapters()

    async def use() -> None:
        async with adapters.using("terse"):
            assert "terse" in adapters.loaded()

    await asyncio.gather(*(use() for _ in range(5)))
    assert engine.told == [("load", "terse")]


async def test_it_stays_while_it_is_used_and_comes_again_after_it_was_unloaded():
    engine = Engine()
    adapters = engine.adapters()
    async with adapters.using("terse"):
        with pytest.raises(Conflict, match="in use by 1"):
            await adapters.unload("terse")
    await adapters.unload("terse")
    async with adapters.using("terse"):
        pass
    assert engine.told == [("load", "terse"), ("unload", "terse"), ("load", "terse")]


async def test_no_more_are_pinned_than_there_is_room_for():
    engine = Engine()
    adapters = engine.adapters(pins=1)
    await adapters.load("terse", pinned=True)
    await adapters.load("terse", pinned=True)
    with pytest.raises(Conflict, match="terse"):
        await adapters.load("legal", pinned=True)
    assert adapters.loaded() == {"terse": True, "legal": False}
    await adapters.unload("terse")
    await adapters.load("legal", pinned=True)
    assert [name for act, name in engine.told if act == "pin"] == ["terse", "legal"]


async def test_one_that_could_not_be_loaded_is_tried_again():
    engine = Engine(fails=1)
    adapters = engine.adapters()
    with pytest.raises(Unavailable):
        async with adapters.using("terse"):
            pytest.fail("used without having been loaded")
    assert adapters.loaded() == {}
    async with adapters.using("terse"):
        pass
    await adapters.unload("terse")


async def test_no_adapter_needs_none():
    engine = Engine()
    async with engine.adapters().using(""):
        assert engine.told == []
