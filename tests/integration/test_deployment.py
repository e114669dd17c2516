"""What is deployed is what the code is: images, compose and Kubernetes name nothing that does not exist."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
from compose_spec import ComposeSpecification
from fastapi.routing import APIRoute

from services.admin.__main__ import app as command_line
from services.common.settings import Settings
from services.gateway.routes import health
from services.orchestrator.graph.names import INGEST_QUEUE
from services.orchestrator.graph.queues import answer_queues
from tests.topology.deployed import ROOT, built, compose, ours, pods, stages
from tests.unit.test_settings import documented

NODES = ("encoder", "retriever", "features", "generator")
SERVICES = ("gateway", "orchestrator", *NODES)
OVERLAYS = ("dev", "prod", "gpu")
KUBERNETES = "1.37"
CUSTOM = {"ScaledObject"}
"""Kinds of KEDA, whose schemas the validator does not have."""


def targets() -> set[str]:
    return {name for name, lines in stages().items() if any(line["instruction"] == "CMD" for line in lines)}


def addresses(node: str) -> str:
    """The port of the node's own address in compose."""
    return compose()["services"][node]["environment"][f"ALMANAC_{node.upper()}_ADDRESS"].rpartition(":")[2]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_is_of_its_schema(overlay: str) -> None:
    for one in built(overlay):
        if one["kind"] not in CUSTOM:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_compose_is_of_its_schema_to_the_last_key() -> None:
    read = ComposeSpecification.model_validate(compose()).model_dump(by_alias=True, exclude_unset=True)
    assert not list(lost(compose(), read)), "keys that the specification does not have"


def lost(given: Any, read: Any, where: str = "") -> Iterator[str]:
    """The keys of what was given that the schema did not take in."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            if key not in read and not key.startswith("x-"):
                yield f"{where}.{key}"
            elif key in read:
                yield from lost(value, read[key], f"{where}.{key}")


def test_a_key_that_compose_does_not_know_is_found() -> None:
    assert list(lost({"services": {"a": {"imag": "b"}}}, {"services": {"a": {}}})) == [".services.a.imag"]


@pytest.mark.parametrize("service", SERVICES)
def test_one_name_everywhere(service: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    workloads = {name for name, _ in pods("prod")}
    assert (ROOT / "services" / service).is_dir()
    assert service in extras
    assert service in compose()["services"]
    assert service in workloads
    assert service in targets()
    assert (ROOT / "infra" / "locks" / f"{service}.txt").is_file()
    assert (ROOT / "services" / "protos" / f"{service}.proto").is_file() == (service in NODES)


def test_every_setting_named_exists() -> None:
    files = [ROOT / "docker-compose.yml", ROOT / ".env.example", ROOT / "infra" / "Dockerfile"]
    files += (ROOT / "k8s").rglob("*.yaml")
    for file in files:
        unknown = set(re.findall(r"\bALMANAC_[A-Z0-9_]+", file.read_text())) - documented()
        assert not unknown, f"{file.relative_to(ROOT)}: {sorted(unknown)}"


def test_every_image_of_ours_is_a_target() -> None:
    in_compose = {one["build"]["target"] for one in compose()["services"].values() if "build" in one}
    in_pods = {one["image"].removeprefix("almanac/") for overlay in OVERLAYS for _, _, one in ours(overlay)}
    assert in_compose | in_pods <= targets()
    for name, one in compose()["services"].items():
        if "build" in one:
            assert one["image"] == f"almanac/{one['build']['target']}", name


@pytest.mark.parametrize("target", sorted(targets() - {"admin"}))
def test_an_image_starts_its_own_service_and_asks_after_it(target: str) -> None:
    service = target.removesuffix("-gpu")
    said = {line["instruction"]: line["value"] for line in stages()[target]}
    assert said["CMD"] == f'["python", "-m", "services.{service}"]'
    assert said["HEALTHCHECK"].endswith(f'CMD ["python", "-m", "services.common.probe", "{service}"]')
    assert importlib.util.find_spec(f"services.{service}.__main__")


def test_every_image_runs_as_a_user_and_holds_no_model() -> None:
    assert "almanac" in [line["value"] for line in stages()["runtime"] if line["instruction"] == "USER"]
    copied = [line["value"] for lines in stages().values() for line in lines if line["instruction"] in ("COPY", "ADD")]
    assert not [value for value in copied if "models" in value]


@pytest.mark.parametrize("node", NODES)
def test_ports_agree(node: str) -> None:
    port = addresses(node)
    exposed = {line["value"] for line in stages()[node] if line["instruction"] == "EXPOSE"}
    assert exposed == {port}
    services = {one["metadata"]["name"]: one for one in built("prod") if one["kind"] == "Service"}
    assert services[node]["spec"]["ports"][0]["port"] == int(port)
    config = next(one["data"] for one in built("prod") if one["kind"] == "ConfigMap")
    assert config[f"ALMANAC_{node.upper()}_ADDRESS"] == f"dns:///{node}:{port}"
    container = next(one for name, _, one in ours("prod") if name == node)
    assert container["ports"][0]["containerPort"] == int(port)
    assert f"ALMANAC_{node.upper()}_ADDRESS" in {entry["name"] for entry in container["env"]}


def test_probes_ask_what_answers() -> None:
    paths = {route.path for route in health.router.routes if isinstance(route, APIRoute)}
    for name, _, container in ours("prod"):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container.get(probe, {})
            if "httpGet" in asked:
                assert asked["httpGet"]["path"] in paths
            elif asked:
                service = "orchestrator" if name == "ingestion" else name
                assert asked["exec"]["command"] == ["python", "-m", "services.common.probe", service]


def test_what_is_run_once_is_a_command() -> None:
    known = {group.name for group in command_line.registered_groups}
    known |= {command.name or command.callback.__name__ for command in command_line.registered_commands}
    asked = [one["command"] for one in compose()["services"].values() if one.get("restart") == "no"]
    asked += [one["command"][2:] for name, _, one in ours("prod") if name in ("migrate", "models")]
    assert len(asked) == 5
    assert {command[1] for command in asked} <= known


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_of_ours_are_closed(overlay: str) -> None:
    for name, pod, container in ours(overlay):
        assert pod["securityContext"]["runAsNonRoot"], name
        assert not pod["automountServiceAccountToken"], name
        assert container["securityContext"]["readOnlyRootFilesystem"], name
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
        assert container["resources"]["limits"]["memory"], name
        written = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"/tmp", "/var/lib/almanac"} <= written, name


def test_containers_of_ours_are_closed() -> None:
    for name, one in compose()["services"].items():
        if "build" in one:
            assert one["read_only"], name
            assert one["cap_drop"] == ["ALL"], name


@pytest.mark.parametrize("node", NODES)
def test_only_the_graph_reaches_a_node(node: str) -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in built("prod") if one["kind"] == "NetworkPolicy"}
    assert policies["nothing-else"]["policyTypes"] == ["Ingress", "Egress"]
    assert not policies["nothing-else"].get("ingress")
    (rule,) = policies[node]["ingress"]
    (peer,) = rule["from"]
    (callers,) = peer["podSelector"]["matchExpressions"]
    assert callers["values"] == ["gateway", "orchestrator", "ingestion"]


def test_workers_are_scaled_by_queues_that_exist() -> None:
    scaled = {
        one["spec"]["scaleTargetRef"]["name"]: one["spec"] for one in built("prod") if one["kind"] == "ScaledObject"
    }
    workloads = {name for name, _ in pods("prod")}
    assert scaled.keys() == {"orchestrator", "ingestion", "encoder", "generator"} <= workloads
    waiting = {one["name"]: one["metadata"]["listName"] for one in scaled["orchestrator"]["triggers"]}
    assert tuple(waiting.values()) == answer_queues(Settings().answer_queues)
    assert scaled["orchestrator"]["advanced"]["scalingModifiers"]["formula"].split(" + ") == list(waiting)
    assert scaled["ingestion"]["triggers"][0]["metadata"]["listName"] == INGEST_QUEUE
    assert scaled["ingestion"]["minReplicaCount"] == 0


def test_every_volume_is_mounted_where_the_image_has_a_place() -> None:
    places = set(Settings.model_fields)
    assert {"models_dir", "uploads_dir", "vectors_dir", "home"} <= places
    environment = " ".join(line["value"] for line in stages()["runtime"] if line["instruction"] == "ENV")
    for place in ("/models", "/uploads", "/vectors", "/var/lib/almanac"):
        assert place in environment
    mounted = {
        volume.split(":")[1]
        for one in compose()["services"].values()
        if "build" in one
        for volume in one.get("volumes", ())
    }
    assert mounted == {"/models", "/uploads", "/vectors", "/var/lib/almanac"}


def test_locks_are_hashed_and_name_no_host() -> None:
    for file in (ROOT / "infra" / "locks").glob("*.txt"):
        text = file.read_text()
        pinned = re.findall(r"^[a-z0-9][\w.\[\]-]*==", text, re.MULTILINE)
        assert pinned, file.name
        assert len(pinned) <= text.count("--hash=sha256:")
        assert "://" not in text, file.name
