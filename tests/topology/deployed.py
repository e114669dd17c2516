"""docker-compose.yml, infra/Dockerfile and k8s/, read as their engines would read them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
WORKLOADS = {"Deployment", "StatefulSet", "Job"}
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Service:
    """A service of compose with what its image adds. volumes: path → name; after: service → condition.

    command and health are what runs in the container, without the image's entry point (tini). target: of the
    Dockerfile, empty for an image of somebody else's.
    """

    name: str
    target: str
    command: tuple[str, ...]
    health: tuple[str, ...]
    environment: Mapping[str, str]
    volumes: Mapping[str, str]
    after: Mapping[str, str]
    restart: str
    replicas: int
    grace: float


@cache
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


@cache
def built(overlay: str) -> list[dict[str, Any]]:
    """The manifests of an overlay of k8s/, as kustomize builds them."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", ROOT / "k8s" / "overlays" / overlay], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def pods(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and template of every workload."""
    for one in built(overlay):
        if one["kind"] in WORKLOADS:
            yield one["metadata"]["name"], one["spec"]["template"]


def ours(overlay: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, pod and container of every workload of an image of ours."""
    for name, template in pods(overlay):
        for container in template["spec"]["containers"]:
            if container["image"].startswith("almanac/"):
                yield name, template["spec"], container


@cache
def stages() -> dict[str, list[dict[str, str]]]:
    """The instructions of each target of the Dockerfile."""
    return {name: lines for name, (_, lines) in _built().items()}


@cache
def _built() -> dict[str, tuple[str, list[dict[str, str]]]]:
    """Target → what it is built on, its instructions."""
    found: dict[str, tuple[str, list[dict[str, str]]]] = {}
    for line in DockerfileParser(str(ROOT / "infra" / "Dockerfile")).structure:
        if line["instruction"] == "FROM":
            base, name = line["value"].split(" AS ")
            found[name] = (base, [])
        elif found:
            found[name][1].append(line)
    return found


def image(target: str) -> Iterator[dict[str, str]]:
    """The instructions of a target, those of what it is built on first."""
    if target in _built():
        base, lines = _built()[target]
        yield from image(base)
        yield from lines


def defaults() -> dict[str, str]:
    """What .env.example sets."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def services(env: Mapping[str, str]) -> dict[str, Service]:
    """Every service of no profile, its variables taken from env. Raises LookupError where one is wanted and missing."""
    given = compose()["services"]
    return {name: _service(name, _interpolated(one, env)) for name, one in given.items() if "profiles" not in one}


def _service(name: str, given: dict[str, Any]) -> Service:
    target = given.get("build", {}).get("target", "")
    said = {line["instruction"]: line["value"] for line in image(target)}
    after = given.get("depends_on", {})
    if isinstance(after, list):
        after = {one: {"condition": "service_started"} for one in after}
    return Service(
        name=name,
        target=target,
        command=tuple(given.get("command") or json.loads(said.get("CMD", "[]"))),
        health=_health(given, said.get("HEALTHCHECK", "")),
        environment={
            **_image_environment(target),
            **{key: str(to) for key, to in given.get("environment", {}).items()},
        },
        volumes={to: source for source, to, *_ in (volume.split(":") for volume in given.get("volumes", ()))},
        after={one: how["condition"] for one, how in after.items()},
        restart=given.get("restart", "no"),
        replicas=int(given.get("deploy", {}).get("replicas", 1)),
        grace=float(str(given.get("stop_grace_period", "10s")).removesuffix("s")),
    )


def _health(given: Mapping[str, Any], of_image: str) -> tuple[str, ...]:
    if "healthcheck" in given:
        kind, *command = given["healthcheck"]["test"]
        return ("sh", "-c", *command) if kind == "CMD-SHELL" else tuple(command)
    return tuple(json.loads(of_image.partition(" CMD ")[2])) if of_image else ()


def _image_environment(target: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in image(target):
        if line["instruction"] == "ENV":
            found |= dict(one.split("=", 1) for one in shlex.split(line["value"]))
    return found


def _interpolated(given: Any, env: Mapping[str, str]) -> Any:
    if isinstance(given, dict):
        return {key: _interpolated(one, env) for key, one in given.items()}
    if isinstance(given, list):
        return [_interpolated(one, env) for one in given]
    return _VARIABLE.sub(lambda found: _value(found, env), given) if isinstance(given, str) else given


def _value(found: re.Match[str], env: Mapping[str, str]) -> str:
    name, how, otherwise = found.groups()
    if given := env.get(name, ""):
        return given
    if how == "?":
        raise LookupError(f"{name}: {otherwise}")
    return otherwise or ""
