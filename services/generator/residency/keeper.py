"""What is resident, within a memory budget: asks the policy, evicts what will be wanted last."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from itertools import count
from typing import Literal, NamedTuple

from services.generator.residency.policies import Policy


class Action(NamedTuple):
    """What the engine has to do now."""

    kind: Literal["load", "unload"]
    name: str


@dataclass(slots=True)
class _Model:
    size: float
    pinned: bool
    last: float = -math.inf
    plans: int = 0
    resident: bool = False


class Keeper:
    """Keeps models resident within a budget. Pure: it is told the time and answers with what to load and unload.

    Sizes and budget are in the same unit. A request is always served: a model larger than what is free displaces the
    models that will be wanted last; pinned ones never leave.
    """

    def __init__(self, policy: Policy, budget: float = math.inf) -> None:
        self._policy, self._budget = policy, budget
        self._models: dict[str, _Model] = {}
        self._due: list[tuple[float, int, int, Action]] = []
        self._order = count()
        self._held = 0.0

    def add(self, name: str, size: float = 1.0, pinned: bool = False) -> None:
        """Make a model known."""
        self._models[name] = _Model(size, pinned)

    def resident(self) -> frozenset[str]:
        return frozenset(name for name, model in self._models.items() if model.resident)

    def arrived(self, name: str, at: float) -> list[Action]:
        """A request for the model: what to do so that it can be served, and to make room. Unloads come first."""
        # What never leaves is no example of what may: the policy learns from all models together.
        if not self._models[name].pinned:
            self._policy.arrived(name, at)
        return self.load(name, at)

    def load(self, name: str, at: float) -> list[Action]:
        """The model is wanted, though no request came: it stays as long as after one."""
        model = self._models[name]
        model.last, model.plans = at, model.plans + 1
        actions = [] if model.resident else [*(self._room(model.size, at, math.inf) or ()), self._load(name)]
        self._schedule(name, model)
        return actions

    def pin(self, name: str) -> None:
        """It never leaves from now on."""
        model = self._models[name]
        model.pinned, model.plans = True, model.plans + 1

    def drop(self, name: str) -> None:
        """It is not resident, whatever was planned, and no longer pinned: it was let go, or could not be loaded."""
        model = self._models[name]
        model.pinned, model.plans = False, model.plans + 1
        if model.resident:
            self._unload(name)

    def next_due(self) -> float | None:
        """When `due` will next have something to say."""
        while self._due and self._due[0][2] != self._models[self._due[0][3].name].plans:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def due(self, at: float) -> list[Action]:
        """What the plans want done by now."""
        actions: list[Action] = []
        while (when := self.next_due()) is not None and when <= at:
            actions += self._do(heapq.heappop(self._due)[3], when)
        return actions

    def _schedule(self, name: str, model: _Model) -> None:
        """Put the plan's loads and unloads on the list; an arrival makes those of earlier plans void."""
        if model.pinned:
            return
        spans = self._policy.plan(name)
        if not spans or spans[0].start > 0:
            self._later(model.last, model, Action("unload", name))
        for start, end in spans:
            if start > 0:
                self._later(model.last + start, model, Action("load", name))
            if end < math.inf:
                self._later(model.last + end, model, Action("unload", name))

    def _later(self, when: float, model: _Model, action: Action) -> None:
        heapq.heappush(self._due, (when, next(self._order), model.plans, action))

    def _do(self, action: Action, at: float) -> list[Action]:
        model = self._models[action.name]
        if model.resident == (action.kind == "load"):
            return []
        if action.kind == "unload":
            return [self._unload(action.name)]
        room = self._room(model.size, at, self._policy.rate(action.name, at - model.last))
        return [] if room is None else [*room, self._load(action.name)]

    def _room(self, size: float, at: float, below: float) -> list[Action] | None:
        """Evict what is wanted less than `below`, the least first, until the size fits; None if it would not."""
        free, leaving = self._budget - self._held, []
        for rate, name in self._by_rate(at) if free < size else ():
            if free >= size or rate >= below:
                break
            leaving.append(name)
            free += self._models[name].size
        return [self._unload(name) for name in leaving] if free >= size or below == math.inf else None

    def _by_rate(self, at: float) -> list[tuple[float, str]]:
        """What can leave, the least wanted first."""
        return sorted(
            (self._policy.rate(name, at - model.last), name)
            for name, model in self._models.items()
            if model.resident and not model.pinned
        )

    def _load(self, name: str) -> Action:
        self._models[name].resident = True
        self._held += self._models[name].size
        return Action("load", name)

    def _unload(self, name: str) -> Action:
        self._models[name].resident = False
        self._held -= self._models[name].size
        return Action("unload", name)
