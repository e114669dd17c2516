"""The bitemporal algebra against the naive replay of the log."""

from hypothesis import given
from hypothesis import strategies as st

from services.common.moment import OPEN_END, Moment, Span
from services.common.timeline import Assertion, Piece, Statement, apply_splice, assertion_span, replay, restate, splice

CHANGES = st.lists(
    st.tuples(
        st.integers(0, 12), st.one_of(st.none(), st.integers(1, 6)), st.one_of(st.none(), st.sampled_from("ABC"))
    ),
    max_size=8,
)


def history(changes):
    """Run the changes through the algebra; yields the log, the extents and the statements it leaves."""
    log, current, extents, statements = [], [], [], []
    for recorded, (start, length, content) in enumerate(changes, start=1):
        span = assertion_span(current, start, None if length is None else start + length)
        change = splice(current, span, content)
        log.append(Assertion(span, recorded, content))
        extents = [
            (piece, Span(known.start, recorded) if piece in change.close and known.end == OPEN_END else known)
            for piece, known in extents
        ]
        extents += [(piece, Span(recorded, OPEN_END)) for piece in change.add]
        current = apply_splice(current, change)
        statements += restate({row.event for row in statements}, current, change, recorded)
    return log, extents, statements


def by_statements(statements: list[Statement[str]], moment: Moment) -> str | None:
    known = [row for row in statements if row.created <= moment.known_at and row.event <= moment.as_of]
    return max(known, key=lambda row: (row.event, row.created)).content if known else None


@given(CHANGES, st.integers(0, 20), st.integers(0, 9))
def test_extents_and_statements_equal_the_replay_of_the_log(changes, as_of, known_at):
    log, extents, statements = history(changes)
    moment = Moment(as_of, known_at)
    visible = [piece.content for piece, known in extents if as_of in piece.valid and known_at in known]
    expected = replay(log, moment)
    assert visible == ([] if expected is None else [expected])
    assert by_statements(statements, moment) == expected


@given(CHANGES)
def test_saying_the_same_again_changes_nothing(changes):
    *_, extents, _ = history(changes)
    current = [piece for piece, known in extents if known.end == OPEN_END]
    for piece in current:
        assert splice(current, piece.valid, piece.content) == splice([], Span(0, 1), None)


@given(CHANGES)
def test_a_statement_tells_until_when_it_holds(changes):
    _, extents, statements = history(changes)
    current: list[Piece[str]] = [piece for piece, known in extents if known.end == OPEN_END]
    for piece in current:
        newest = max((row for row in statements if row.event == piece.valid.start), key=lambda row: row.created)
        assert newest.content == piece.content and newest.until == piece.valid.end


def test_a_late_version_does_not_bring_back_what_has_ended():
    current = [Piece(Span(0, 10), "A")]
    assert assertion_span(current, 5, None) == Span(5, 10)
    assert assertion_span(current, 10, None) == Span(10, OPEN_END)
    assert assertion_span(current, 5, 20) == Span(5, 20)
