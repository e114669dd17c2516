"""Every name in compose and k8s/ stands for something: settings, selectors, ports, volumes, accounts, files, times."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from benchmarks.images import pinned
from services.admin.settings import AdminSettings
from services.common import probe
from services.common.settings import Settings
from services.encoder.settings import EncoderSettings
from services.features.settings import FeaturesSettings
from services.gateway.settings import GatewaySettings
from services.generator.settings import GeneratorSettings
from services.orchestrator.settings import WorkerSettings
from services.retriever.settings import RetrieverSettings
from tests.topology.deployed import ROOT, built, compose, image, ours, pods, services, stages

OVERLAYS = ("dev", "prod", "gpu")
READ: dict[str, type[Settings]] = {
    "gateway": GatewaySettings,
    "orchestrator": WorkerSettings,
    "encoder": EncoderSettings,
    "retriever": RetrieverSettings,
    "features": FeaturesSettings,
    "generator": GeneratorSettings,
    "generator-gpu": GeneratorSettings,
    "admin": AdminSettings,
}
"""Image → the settings that its process reads."""
LASTING = {"Deployment", "StatefulSet"}
EVERYTHING = dict.fromkeys(("POSTGRES_PASSWORD", "QDRANT_API_KEY", "GRAFANA_PASSWORD"), "x")
IN_IMAGE = {"/models", "/uploads", "/vectors", "/var/lib/almanac", "/tmp"}


def of_kind(overlay: str, *kinds: str) -> Iterator[dict[str, Any]]:
    return (one for one in built(overlay) if one["kind"] in kinds)


def named(overlay: str, kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in of_kind(overlay, kind)}


def fields(target: str) -> set[str]:
    return {f"ALMANAC_{name.upper()}" for name in READ[target].model_fields}


def test_what_a_service_is_told_its_own_process_reads() -> None:
    for one in services(EVERYTHING).values():
        if one.target:
            own = {name for name in one.environment if name.startswith("ALMANAC_")}
            assert own <= fields(one.target), (one.name, own - fields(one.target))
    for overlay in OVERLAYS:
        for name, _, container in ours(overlay):
            own = {entry["name"] for entry in container.get("env", ())}
            assert own <= fields(container["image"].removeprefix("almanac/")), name


def test_what_all_are_told_some_process_reads() -> None:
    known = set().union(*map(fields, READ))
    for overlay in OVERLAYS:
        for one in of_kind(overlay, "ConfigMap"):
            assert set(one["data"]) <= known
    text = (ROOT / "k8s/overlays/dev/kustomization.yaml").read_text()
    assert set(re.findall(r"- (ALMANAC_\w+)=", text)) <= known


def test_compose_asks_for_what_the_example_names_and_the_example_names_nothing_else() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    told = set(re.findall(r"^(?:# )?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert told - {"COMPOSE_PROFILES"} <= asked
    assert asked - told <= {"PROMETHEUS_PORT", "GRAFANA_PORT", "ALMANAC_OTLP_ENDPOINT"}, asked - told


def test_compose_names_its_own_services_and_volumes() -> None:
    known, declared, used = compose()["services"], set(compose()["volumes"]), set()
    for name, one in known.items():
        assert set(one.get("depends_on", ())) <= set(known), name
        used |= {volume.split(":")[0] for volume in one.get("volumes", ())}
    files = {source for source in used if source.startswith(".")}
    assert used - files == declared
    assert all((ROOT / source).is_dir() for source in files)


def test_what_compose_waits_for_to_be_healthy_has_a_health_check() -> None:
    known = services(EVERYTHING)
    for one in known.values():
        for other, condition in one.after.items():
            assert condition != "service_healthy" or known[other].health, (one.name, other)
            assert condition != "service_completed_successfully" or known[other].restart == "no", (one.name, other)


def test_an_image_copies_what_is_there_or_what_another_stage_made() -> None:
    for name, lines in stages().items():
        for line in (line for line in lines if line["instruction"] == "COPY"):
            *sources, _ = line["value"].split()
            if sources[0].startswith("--from="):
                assert sources[0].removeprefix("--from=") in stages(), name
            else:
                assert all((ROOT / source).exists() for source in sources), (name, sources)


def test_prometheus_finds_services_of_compose_at_their_ports() -> None:
    known = services(EVERYTHING)
    jobs = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())["scrape_configs"]
    for where in (where for job in jobs for where in job["dns_sd_configs"]):
        for name in where["names"]:
            told = known[name].environment
            assert str(where["port"]) == told["ALMANAC_PORT" if name == "gateway" else "ALMANAC_METRICS_PORT"], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_whatever_selects_pods_selects_some(overlay: str) -> None:
    labels = [template["metadata"]["labels"] for _, template in pods(overlay)]
    for one in of_kind(overlay, "Service", "PodDisruptionBudget", "NetworkPolicy", *LASTING):
        for selector in selectors(one["spec"]):
            for wanted in alternatives(selector):
                assert any(wanted.items() <= own.items() for own in labels), (one["metadata"]["name"], wanted)


def selectors(spec: Any) -> Iterator[dict[str, Any]]:
    """Every selector of pods inside, as {matchLabels, matchExpressions}."""
    if isinstance(spec, list):
        for one in spec:
            yield from selectors(one)
    elif isinstance(spec, dict):
        for key, value in spec.items():
            if key in ("podSelector", "selector", "labelSelector"):
                yield value if "matchLabels" in value or "matchExpressions" in value else {"matchLabels": value}
            else:
                yield from selectors(value)


def alternatives(selector: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Labels that each have to be somebody's: one set for each value of an expression."""
    fixed = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions", ())
    if not expressions:
        yield fixed
    for expression in expressions:
        assert expression["operator"] == "In"
        for value in expression["values"]:
            yield {**fixed, expression["key"]: value}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_reference_of_a_pod_is_kept(overlay: str) -> None:
    claims, accounts = set(named(overlay, "PersistentVolumeClaim")), set(named(overlay, "ServiceAccount"))
    config, secrets = set(named(overlay, "ConfigMap")), {*named(overlay, "Secret"), "almanac"}
    workloads = {**named(overlay, "Deployment"), **named(overlay, "StatefulSet"), **named(overlay, "Job")}
    for name, pod, container in ours(overlay):
        own = {one["metadata"]["name"] for one in workloads[name]["spec"].get("volumeClaimTemplates", ())}
        volumes = {one["name"] for one in pod["volumes"]} | own
        assert {
            one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"] if "persistentVolumeClaim" in one
        } <= claims
        assert pod["serviceAccountName"] in accounts, name
        assert {one["configMapRef"]["name"] for one in container["envFrom"] if "configMapRef" in one} <= config
        assert {one["secretRef"]["name"] for one in container["envFrom"] if "secretRef" in one} <= secrets
        assert {one["name"] for one in container["volumeMounts"]} == volumes, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_mount_is_a_place_that_the_image_tells_its_process_of(overlay: str) -> None:
    for name, _, container in ours(overlay):
        target = container["image"].removeprefix("almanac/")
        said = " ".join(line["value"] for line in image(target) if line["instruction"] == "ENV")
        for path in {one["mountPath"] for one in container["volumeMounts"]} - {"/tmp", "/dev/shm"}:
            assert re.search(rf"ALMANAC_\w+={path}(\s|$)", said), (name, path)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_port_that_is_named_or_open_is_one_that_somebody_listens_on(overlay: str) -> None:
    ports = {name: port for template in pods(overlay) for name, port in listening(template[1])}
    config = named(overlay, "ConfigMap")["almanac"]["data"]
    outside = {5432, 6379, 6333, 443, 53, 4317, int(config["ALMANAC_METRICS_PORT"])}
    for one in of_kind(overlay, "Service"):
        for port in one["spec"]["ports"]:
            assert port["targetPort"] in ports, one["metadata"]["name"]
    for one in of_kind(overlay, "NetworkPolicy"):
        for way in ("ingress", "egress"):
            for rule in one["spec"].get(way, ()):
                for port in rule.get("ports", ()):
                    assert port["port"] in ports or port["port"] in outside, one["metadata"]["name"]


def listening(template: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for container in template["spec"]["containers"]:
        for port in container.get("ports", ()):
            yield port["name"], port["containerPort"]


def test_stores_are_reached_at_the_ports_they_have_everywhere() -> None:
    ports = {name: dict(listening(template)) for name, template in pods("dev")}
    assert {name: ports[name]["main"] for name in ("postgres", "valkey", "qdrant")} == {
        "postgres": 5432,
        "valkey": 6379,
        "qdrant": 6333,
    }
    text = (ROOT / "docker-compose.yml").read_text() + (ROOT / "k8s/overlays/dev/kustomization.yaml").read_text()
    for store, port in (("valkey", "6379"), ("qdrant", "6333")):
        assert set(re.findall(rf"{store}:(\d\d\d+)", text)) == {port}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_lasts_is_asked_whether_it_started_is_ready_and_lives(overlay: str) -> None:
    jobs = set(named(overlay, "Job"))
    for name, _, container in ours(overlay):
        asked = {one for one in ("startupProbe", "readinessProbe", "livenessProbe") if one in container}
        assert len(asked) == (0 if name in jobs else 3), name


@pytest.mark.parametrize("name", sorted({*READ} - {"admin", "generator-gpu"}))
def test_the_probe_knows_every_service_and_nobody_is_well_who_does_not_run(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("ALMANAC_HOME", str(tmp_path))
    monkeypatch.setenv("ALMANAC_PORT", "1")
    monkeypatch.setattr(probe, "_PROBE_SECONDS", 0.2)
    assert not probe.well(name)
    with pytest.raises(AttributeError):
        probe.well("nobody")


def test_there_is_time_to_end_what_is_in_flight() -> None:
    shutdown = int(named("prod", "ConfigMap")["almanac"]["data"]["ALMANAC_SHUTDOWN_SECONDS"])
    assert shutdown >= GatewaySettings().answer_seconds
    for name, pod, container in ours("prod"):
        if name not in named("prod", "Job"):
            drain = {one["name"]: one["value"] for one in container.get("env", ())}.get("ALMANAC_DRAIN_SECONDS", "0")
            before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            assert pod["terminationGracePeriodSeconds"] > before + float(drain) + shutdown, name
    for one in services(EVERYTHING).values():
        if one.target:
            assert one.grace > float(one.environment["ALMANAC_SHUTDOWN_SECONDS"]), one.name


def test_a_new_pod_is_there_before_the_old_one_goes_unless_two_would_both_write() -> None:
    alone = {"retriever", "features"}
    for one in of_kind("prod", *LASTING):
        name, spec = one["metadata"]["name"], one["spec"]
        if name in alone:
            assert spec["replicas"] == 1
            assert one["kind"] == "StatefulSet" or spec["strategy"] == {"type": "Recreate"}
            assert named("prod", "Service")[name]["spec"]["publishNotReadyAddresses"]
        else:
            assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}, name


def test_the_sizes_of_images_are_told_of_every_lock_as_it_is() -> None:
    text = (ROOT / "docs" / "operations.md").read_text().partition("### Sizes of images")[2]
    told = {name: int(count) for name, count in re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", text, re.MULTILINE)}
    locks = {file.stem: len(pinned(file)) for file in (ROOT / "infra" / "locks").glob("*.txt")}
    del locks["generator-gpu"]
    assert told == locks
