"""The graph as a picture: Mermaid's flowchart language (https://mermaid.js.org/syntax/flowchart.html)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.orchestrator.graph.executor import Step


def mermaid(steps: Sequence[Step]) -> str:
    """A box for each step, with its node, deadline, retries and fallback; an arrow for each need."""
    return "\n".join(["flowchart LR", *(f"  {line}" for step in steps for line in _lines(step))])


def _lines(step: Step) -> Iterator[str]:
    told = [step.node, f"{step.seconds:g} s", f"{step.retries} retry" if step.retries else ""]
    told.append("fallback" if step.fallback else "")
    yield f'{step.name}["{step.name}<br/>{", ".join(filter(None, told))}"]'
    for need in step.needs:
        yield f"{need} {'-.->' if step.fallback else '-->'} {step.name}"
