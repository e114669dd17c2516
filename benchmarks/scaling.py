"""How KEDA and Kubernetes scale: the settings of k8s/ as data, and the rule that makes replicas of them.

Source: kubernetes/pkg/controller/podautoscaler (1.30): desired = ceil(metric / target), left alone within a tolerance
of a tenth; stabilized by the lowest recommendation of the window up and the highest of the window down; limited by
policies over their periods. KEDA (2.14) asks by itself only between zero and one replica: `pollingInterval` and
`cooldownPeriod` hold there alone; from one on its metrics are read by the autoscaler, every 15 s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.common import ROOT

SYNC_SECONDS = 15.0
TOLERANCE = 0.1
SETTINGS = ROOT / "k8s" / "components" / "autoscaling"


@dataclass(frozen=True, slots=True)
class Policy:
    """So many pods, or so many percent, in so many seconds."""

    kind: str
    value: float
    seconds: float

    def up(self, replicas: int) -> int:
        return replicas + int(self.value) if self.kind == "Pods" else math.ceil(replicas * (1 + self.value / 100))

    def down(self, replicas: int) -> int:
        return replicas - int(self.value) if self.kind == "Pods" else math.floor(replicas * (1 - self.value / 100))


@dataclass(frozen=True, slots=True)
class Rule:
    """One ScaledObject's, by its formula or else its first trigger. target: of the metric, for each replica."""

    name: str
    least: int
    most: int
    target: float
    polling_seconds: float
    cooldown_seconds: float
    up_window: float
    down_window: float
    up: tuple[Policy, ...]
    down: tuple[Policy, ...]


def read(name: str, directory: Path = SETTINGS) -> Rule:
    """The rule of the ScaledObject with that name. Raises KeyError where there is none."""
    for file in sorted(directory.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if document["kind"] == "ScaledObject" and document["metadata"]["name"] == name:
                return _rule(name, document["spec"])
    raise KeyError(f"no ScaledObject {name} in {directory}")


def _rule(name: str, spec: dict[str, Any]) -> Rule:
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    trigger = {**spec["triggers"][0]["metadata"], **spec["advanced"].get("scalingModifiers", {})}
    up, down = behavior["scaleUp"], behavior["scaleDown"]
    return Rule(
        name,
        spec["minReplicaCount"],
        spec["maxReplicaCount"],
        float(trigger.get("target") or trigger.get("threshold") or trigger["listLength"]),
        spec["pollingInterval"],
        spec["cooldownPeriod"],
        up["stabilizationWindowSeconds"],
        down["stabilizationWindowSeconds"],
        *(
            tuple(Policy(one["type"], one["value"], one["periodSeconds"]) for one in side["policies"])
            for side in (up, down)
        ),
    )


@dataclass(slots=True)
class Scaler:
    """Says how many replicas there are to be; asked every `SYNC_SECONDS`."""

    rule: Rule
    advised: list[tuple[float, int]] = field(default_factory=list)
    changes: list[tuple[float, int]] = field(default_factory=list)
    active_at: float = -math.inf

    def replicas(self, now: float, metric: float, current: int) -> int:
        """metric: of all replicas together, as an average value for each."""
        if metric > 0:
            self.active_at = now
        if self.rule.least == 0 and (current == 0 or now - self.active_at >= self.rule.cooldown_seconds):
            wanted = int(metric > 0)
        else:
            wanted = self._limited(now, self._stable(now, self._advice(metric, current), current), current)
        if wanted != current:
            self.changes.append((now, wanted - current))
        return wanted

    def _advice(self, metric: float, current: int) -> int:
        ratio = metric / (self.rule.target * current)
        wanted = current if abs(ratio - 1) <= TOLERANCE else math.ceil(metric / self.rule.target)
        return min(max(wanted, self.rule.least, 1), self.rule.most)

    def _stable(self, now: float, advice: int, current: int) -> int:
        longest = max(self.rule.up_window, self.rule.down_window)
        self.advised = [(at, one) for at, one in self.advised if at > now - longest] + [(now, advice)]
        least = min(one for at, one in self.advised if at > now - self.rule.up_window or at == now)
        most = max(one for at, one in self.advised if at > now - self.rule.down_window or at == now)
        return max(min(current, most), least) if least <= most else current

    def _limited(self, now: float, wanted: int, current: int) -> int:
        if wanted > current:
            limit = max(policy.up(self._began(now, policy, current)) for policy in self.rule.up)
            return max(current, min(wanted, limit))
        limit = min(policy.down(self._began(now, policy, current)) for policy in self.rule.down)
        return min(current, max(wanted, limit))

    def _began(self, now: float, policy: Policy, current: int) -> int:
        """Replicas at the beginning of the policy's period."""
        return current - sum(change for at, change in self.changes if at > now - policy.seconds)
