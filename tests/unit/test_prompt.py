from __future__ import annotations

from services.common.moment import parse_instant
from services.orchestrator.graph.grounding import Evidence
from services.orchestrator.graph.prompt import build_messages

EVIDENCE = [Evidence(1, "It moved to\nthe GSP Stadium.", "Omonia"), Evidence(2, "It is green.")]


def test_evidence_is_numbered_and_the_date_stated() -> None:
    system, user = build_messages("Where does it play? ", EVIDENCE, parse_instant("2019-03-01"))
    assert (system.role, user.role) == ("system", "user")
    assert "1 March 2019" in user.content
    assert "[1] Omonia: It moved to the GSP Stadium.\n[2] It is green.\n" in user.content
    assert "Question: Where does it play?\n" in user.content
    assert "concise" in system.content


def test_what_never_changes_comes_first() -> None:
    one = build_messages("One?", EVIDENCE, 0)
    other = build_messages("Other?", EVIDENCE[:1], parse_instant("1150-01-01"))
    assert one[0] == other[0]
    assert "1 January 1150" in other[1].content


def test_the_question_comes_after_the_evidence() -> None:
    [_, user] = build_messages("Where?", EVIDENCE, 0)
    assert user.content.index("[2]") < user.content.index("Where?")
