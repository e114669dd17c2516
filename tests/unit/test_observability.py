"""Dashboards, alerts and the handbook speak of figures that exist, and of all of them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry

from services.admin.__main__ import app as command_line
from services.common.metrics import REGISTRY
from services.gateway.metrics import Metrics
from services.orchestrator.app import create_app
from services.orchestrator.graph.names import ANSWER_QUEUE, INGEST_QUEUE
from services.orchestrator.graph.queues import answer_queues
from services.orchestrator.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
HANDBOOK = (ROOT / "docs" / "operations.md").read_text()
BOUNDED = set(re.findall(r"\w+", "code grounding kind measure method node queue route stage state status step type"))
"""Labels whose values the code fixes. `route` is a pattern, never a path."""
SUFFIXES = ("_total", "_bucket", "_count", "_sum", "")


def registries() -> Iterator[CollectorRegistry]:
    for file in sorted(ROOT.glob("services/*/metrics.py")):
        importlib.import_module(f"services.{file.parent.name}.metrics")
    importlib.import_module("services.orchestrator.graph.executor")
    importlib.import_module("services.common.rpc.circuit")
    yield REGISTRY
    yield Metrics()._registry


def figures() -> dict[str, tuple[str, ...]]:
    """Every figure of ours and its labels."""
    return {
        collector._name: tuple(collector._labelnames)
        for registry in registries()
        for collector in registry._collector_to_names
        if hasattr(collector, "_labelnames")
    }


def queried() -> Iterator[tuple[str, str]]:
    """Where a query stands, and the query."""
    for rule in yaml.safe_load((ROOT / "infra/prometheus/alerts.yml").read_text())["groups"][0]["rules"]:
        yield rule["alert"], rule["expr"]
    for file in (ROOT / "infra/grafana/dashboards").glob("*.json"):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{file.stem}: {panel['title']}", target["expr"]
    for file in (ROOT / "k8s").rglob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            for trigger in (document or {}).get("spec", {}).get("triggers", ()):
                if "query" in trigger["metadata"]:
                    yield str(file.relative_to(ROOT)), trigger["metadata"]["query"]


def test_labels_are_bounded() -> None:
    for name, labels in figures().items():
        assert set(labels) <= BOUNDED, name


def test_queries_ask_for_figures_that_exist() -> None:
    known = {f"{name}{suffix}" for name in figures() for suffix in SUFFIXES}
    for where, query in queried():
        asked = set(re.findall(r"\balmanac_\w+", query))
        assert asked <= known, where
        assert asked or "process_" in query or "DCGM" in query, where


def test_queries_group_by_labels_that_the_figures_have() -> None:
    labels = {f"{name}{suffix}": set(given) for name, given in figures().items() for suffix in SUFFIXES}
    for where, query in queried():
        for grouped, rest in re.findall(r"by \(([^)]*)\) \((.*)", query):
            (name, *_) = re.findall(r"\b(?:almanac|process)_\w+", rest)
            if name in labels:
                assert set(re.split(r",\s*", grouped)) <= labels[name] | {"le", "instance"}, where


def test_the_dashboards_are_those_of_the_code() -> None:
    spec = importlib.util.spec_from_file_location("dashboards", ROOT / "infra/grafana/dashboards.py")
    assert spec and spec.loader
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    found = {path: path.read_text() for path in (ROOT / "infra/grafana/dashboards").glob("*.json")}
    assert found == code.written(), "run python infra/grafana/dashboards.py"


def test_every_alert_has_its_runbook() -> None:
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", HANDBOOK, re.MULTILINE)}
    for rule in yaml.safe_load((ROOT / "infra/prometheus/alerts.yml").read_text())["groups"][0]["rules"]:
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert page == "docs/operations.md"
        assert anchor == rule["alert"].lower()
        assert anchor in headings


def test_the_handbook_has_every_figure_and_no_other() -> None:
    told = set(re.findall(r"^\| `(almanac_\w+)` \|", HANDBOOK, re.MULTILINE))
    assert told == set(figures())


def test_the_handbook_tells_kind_and_labels_of_each_figure() -> None:
    rows = re.findall(r"^\| `(almanac_\w+)` \| (\w+) \| ([\w, ]*) \| (.+) \|$", HANDBOOK, re.MULTILINE)
    told = {name: (kind, tuple(re.findall(r"\w+", labels)), text) for name, kind, labels, text in rows}
    known = {
        collector._name: (collector._type, tuple(collector._labelnames), collector._documentation)
        for registry in registries()
        for collector in registry._collector_to_names
        if hasattr(collector, "_labelnames")
    }
    assert told == known


def section(title: str) -> str:
    return HANDBOOK.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_runbook_has_its_alert() -> None:
    rules = yaml.safe_load((ROOT / "infra/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    assert set(re.findall(r"^### (\w+)$", section("Alerts"), re.MULTILINE)) == {rule["alert"] for rule in rules}


def test_the_handbook_has_every_queue_and_no_other() -> None:
    assert set(re.findall(r"^\| `([\w.-]+)` \|", section("Queues"), re.MULTILINE)) == {ANSWER_QUEUE, INGEST_QUEUE}
    settings = WorkerSettings()
    assert {route["queue"] for route in create_app(settings).conf.task_routes.values()} == {INGEST_QUEUE}
    assert settings.consumed == (*answer_queues(settings.answer_queues), INGEST_QUEUE)


def test_the_pages_that_the_handbook_names_are_there() -> None:
    named = set(re.findall(r"`(docs/[\w.-]+|benchmarks[./]\w+|infra/[\w./-]+)`", HANDBOOK))
    for name in named:
        path = name if "/" in name else f"{name.replace('.', '/')}.py"
        assert (ROOT / path).exists(), name


def commands() -> Iterator[str]:
    for command in command_line.registered_commands:
        yield (command.name or command.callback.__name__).replace("_", "-")
    for group in command_line.registered_groups:
        for command in group.typer_instance.registered_commands:
            yield f"{group.name} {(command.name or command.callback.__name__).replace('_', '-')}"


def test_the_handbook_has_every_command_and_no_other() -> None:
    told = set(re.findall(r"^\| `almanac ([\w -]+)` \|", HANDBOOK, re.MULTILINE))
    assert told == set(commands())
