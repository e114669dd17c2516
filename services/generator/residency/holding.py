"""What an engine holds of its adapters and its model, as its keeper says: the policy at work on a live engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

import structlog

from services.common.errors import AlmanacError, Conflict
from services.common.nodes.generator import Adapter
from services.generator.metrics import Account
from services.generator.residency.keeper import Action, Keeper
from services.generator.residency.policies import FOREVER_KEPT

log = structlog.get_logger()

MODEL = "\0model"
"""The model's own name among those of adapters; no setting can hold it."""
_EVERY_SECONDS = 0.5
"""How late what is due may be done."""

Act = Callable[[str], Awaitable[None]]


async def _nothing(name: str) -> None:
    pass


@dataclass(slots=True)
class _One:
    """An adapter, or the model. leaving: it goes with its last answer, for this reason. changing: a load or an unload
    under way, which all who want it wait for."""

    name: str
    size: int
    account: Account
    loaded: bool = False
    pinned: bool = False
    uses: int = 0
    leaving: str = ""
    loading: bool = False
    changing: asyncio.Future[None] | None = field(default=None, repr=False)

    @property
    def held(self) -> bool:
        return self.loaded and self.changing is None


class OnDemand:
    """Loaded once each, however many ask at once; let go when the keeper says so, and never while in use.

    `sizes`: bytes by name. At most `pins` are pinned by name: the engine needs a place for the others. Where what is to
    make room is in use, the budget is passed until its last answer has ended. `clock`: seconds.
    """

    def __init__(
        self,
        load: Act = _nothing,
        unload: Act = _nothing,
        pin: Act = _nothing,
        pins: int = 1,
        keeper: Keeper | None = None,
        sizes: Mapping[str, int] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load, self._unload, self._pin, self._most = load, unload, pin, pins
        self._keeper = keeper or Keeper(FOREVER_KEPT)
        self._sizes, self._clock = sizes, clock
        self._ones: dict[str, _One] = {}
        self._ahead: set[asyncio.Future[None]] = set()

    def loaded(self) -> Mapping[str, bool]:
        """Those it holds by name, and whether they are pinned."""
        return {one.name: one.pinned for one in self._ones.values() if one.held}

    def show(self, name: str) -> Adapter:
        one = self._one(name)
        account = one.account
        account.tick(self._clock())
        return Adapter(name, one.held, one.pinned, one.size, account.loads, account.cold_starts, account.seconds)

    def found(self, name: str, pinned: bool = False) -> None:
        """It is there already: it stays as long as after a request, or for good."""
        one = self._one(name)
        one.loaded, one.pinned = True, pinned
        one.account.found(self._clock())
        self._keeper.load(name, self._clock())
        if pinned:
            self._keeper.pin(name)

    async def load(self, name: str, pinned: bool = False) -> None:
        one = self._one(name)
        with self._use(one):
            await self._make_room(self._keeper.load(name, self._clock()))
            await self._enter(one, "told")
            if pinned and not one.pinned:
                await self._fix(one)

    async def _fix(self, one: _One) -> None:
        held = [other.name for other in self._ones.values() if other.pinned and other.name != MODEL]
        if len(held) >= self._most:
            raise Conflict(f"{len(held)} adapters are pinned, the most there may be; unload one: {', '.join(held)}")
        one.pinned = True
        try:
            await self._pin(one.name)
        except BaseException:
            one.pinned = False
            raise
        self._keeper.pin(one.name)

    async def unload(self, name: str) -> None:
        one = self._one(name)
        if one.uses:
            raise Conflict(f"adapter {name!r} is in use by {one.uses} answers; try again when they end")
        one.pinned = False
        self._keeper.drop(name)
        await self._leave(one, "told")

    @asynccontextmanager
    async def using(self, *names: str) -> AsyncGenerator[None, None]:
        """Hold what is named, if anything is, while an answer uses it."""
        with ExitStack() as held:
            ones = [self._one(name) for name in names if name]
            for one in ones:
                held.enter_context(self._use(one))
            for one in ones:
                cold = not one.held
                await self._make_room(self._keeper.arrived(one.name, self._clock()))
                await self._enter(one, "asked")
                one.account.asked(cold)
            yield

    async def follow(self) -> None:
        """Do what becomes due, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            await self.tick()

    async def tick(self) -> None:
        """Do what is due by now."""
        now = self._clock()
        for kind, name in self._keeper.due(now):
            one = self._one(name)
            if kind == "unload":
                await self._quietly(self._leave(one, "idle"), name)
            else:
                fetching = asyncio.ensure_future(self._quietly(self._fetch(one), name))
                self._ahead.add(fetching)
                fetching.add_done_callback(self._ahead.discard)
        for one in self._ones.values():
            one.account.tick(now)

    async def _fetch(self, one: _One) -> None:
        with self._use(one):
            await self._enter(one, "ahead")

    async def _make_room(self, actions: Sequence[Action]) -> None:
        for kind, name in actions:
            if kind == "unload":
                await self._quietly(self._leave(self._one(name), "room"), name)

    async def _quietly(self, work: Awaitable[None], name: str) -> None:
        """What no request waits for: a failure is logged."""
        try:
            await work
        except AlmanacError as error:
            log.warning("residency_failed", adapter=name, reason=error.detail)

    async def _enter(self, one: _One, why: str) -> None:
        """Have it loaded. A load goes on where those who wait for it have left."""
        one.leaving = ""
        while not one.held:
            changing = one.changing or self._begin(one, why, load=True)
            loading = one.loading
            try:
                await asyncio.shield(changing)
            except AlmanacError:
                if loading:
                    raise

    async def _leave(self, one: _One, why: str) -> None:
        one.leaving = why
        leaving = self._settle(one)
        if leaving is not None:
            await asyncio.shield(leaving)

    def _settle(self, one: _One) -> asyncio.Future[None] | None:
        """Begin to unload what is to leave, if nothing uses it any more."""
        if not one.leaving or one.uses or not one.held:
            return None
        return self._begin(one, one.leaving, load=False)

    def _begin(self, one: _One, why: str, load: bool) -> asyncio.Future[None]:
        one.loading = load
        one.changing = asyncio.ensure_future(self._change(one, why, load))
        # Nobody may be left to take the exception.
        one.changing.add_done_callback(lambda done: done.cancelled() or done.exception())
        return one.changing

    async def _change(self, one: _One, why: str, load: bool) -> None:
        began = self._clock()
        try:
            await (self._load if load else self._unload)(one.name)
            one.loaded, one.leaving = load, one.leaving if load else ""
        except BaseException:
            if load:
                self._keeper.drop(one.name)
            one.leaving = ""
            raise
        finally:
            one.changing = None
            self._settle(one)
        if load:
            one.account.came(why, self._clock(), self._clock() - began)
        else:
            one.account.left(why, self._clock())

    @contextmanager
    def _use(self, one: _One) -> Iterator[None]:
        one.uses += 1
        try:
            yield
        finally:
            one.uses -= 1
            self._settle(one)

    def _one(self, name: str) -> _One:
        if name not in self._ones:
            size = self._sizes.get(name, 0)
            account = Account("model" if name == MODEL else "adapter", size)
            self._ones[name] = _One(name, size, account)
            self._keeper.add(name, size)
        return self._ones[name]
