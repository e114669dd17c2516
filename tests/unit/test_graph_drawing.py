"""The graph as data and as a picture."""

from __future__ import annotations

from services.orchestrator.graph.drawing import mermaid
from services.orchestrator.graph.run import plan


def test_every_step_needs_only_steps_that_there_are() -> None:
    names = [step.name for step in plan()]
    assert len(names) == len(set(names))
    assert {need for step in plan() for need in step.needs} <= set(names)


def test_the_picture_has_a_box_for_each_step_and_an_arrow_for_each_need() -> None:
    lines = mermaid(plan()).splitlines()
    assert lines[0] == "flowchart LR"
    for step in plan():
        assert any(line.startswith(f'  {step.name}["{step.name}<br/>{step.node}, ') for line in lines)
        for need in step.needs:
            assert any(line.startswith(f"  {need} -") and line.endswith(f"> {step.name}") for line in lines)
