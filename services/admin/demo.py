"""`make demo`: a stack of its own, the sample corpus, and questions whose answers depend on the moment."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from services.admin.client import Gateway
from services.admin.commands.read import listen, show_answer
from services.admin.failures import Failed
from services.admin.render import day

EXAMPLES = Path("examples")
HOME = Path(".almanac") / "demo"
COLLECTION = "almanac"


def main() -> None:
    if not EXAMPLES.is_dir():
        sys.exit("run the demo from the repository's root: it reads examples/")
    shutil.rmtree(HOME, ignore_errors=True)
    port = _free_port()
    env = {**os.environ, "ALMANAC_HOME": str(HOME), "ALMANAC_PORT": str(port)}
    try:
        _almanac(["up", "--detach", "--port", str(port)], env)
        files = [str(EXAMPLES / name) for name in ("history.jsonl", "facts.jsonl")]
        _almanac(["ingest", *files, "--history", "--collection", COLLECTION, "--wait"], env)
        _ask_all(Gateway(f"http://127.0.0.1:{port}"))
    finally:
        _almanac(["down"], env)
    typer.secho("\nGo on with a stack of your own:", bold=True)
    typer.echo(
        "  .venv/bin/almanac up --detach\n"
        "  .venv/bin/almanac ingest examples/history.jsonl examples/facts.jsonl --history --collection almanac --wait\n"
        '  .venv/bin/almanac ask "Is Pluto a planet?" --as-of 2000-06-01 --collection almanac\n'
        "  .venv/bin/almanac down"
    )


def _ask_all(gateway: Gateway) -> None:
    for line in (EXAMPLES / "questions.jsonl").read_text().splitlines():
        asked = json.loads(line)
        typer.secho(f"\n{'─' * 100}\n{asked['question']}", bold=True)
        for moment in asked["moments"]:
            _ask(gateway, asked["question"], moment)


def _ask(gateway: Gateway, question: str, moment: dict[str, Any]) -> None:
    known = f", as known at {day(moment['known_at'])}" if "known_at" in moment else ""
    typer.secho(f"\n▸ as of {day(moment['as_of'])}{known}", fg="cyan")
    body = {"question": question, "collection": COLLECTION, "stream": True, **moment}
    try:
        show_answer(listen(gateway.events("POST", "/v1/answers", body), show=True))
    except Failed as failure:
        sys.exit(f"the demo failed: {failure}")


def _almanac(arguments: Sequence[str], env: dict[str, str]) -> None:
    typer.secho(f"\n$ almanac {' '.join(arguments)}", bold=True)
    done = subprocess.run([sys.executable, "-m", "services.admin", *arguments], env=env, check=False)
    if done.returncode:
        sys.exit(f"`almanac {arguments[0]}` failed with exit code {done.returncode}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
