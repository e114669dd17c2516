"""One view's files and sorted runs: whatever their shape, reads equal a naive search."""

import json
import random
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from services.common.moment import parse_instant
from services.common.nodes.features import FeatureRow
from services.features.backends import runs, store
from services.features.backends.rows import to_table
from services.features.backends.store import ViewStore
from services.features.views import View, stored_row

VIEW = View("views", {"present": bool, "answer": str, "score": float})
BUFFER = 40
KEYS = [f"e{number}" for number in range(9)]


def row(key, event, created, answer=""):
    return stored_row(
        VIEW, key, FeatureRow(key, True, event, created, {"answer": answer or f"{key} {event} {created}"})
    )


def append(held, name, rows, beyond=False):
    files = held.beyond if beyond else held.within
    held.add(files.show([files.stage(name, [to_table(held.view, rows)])]))


def settle(held):
    """Merge as the node does in the background; returns how often."""
    count = 0
    while due := held.due():
        held.commit(due[0], held.merge(*due), due[1])
        count += 1
    return count


def naive(rows, key, as_of, known_at):
    seen = [one for one in rows if one.entity == key and one.event <= as_of and one.created <= known_at]
    return max(seen, key=lambda one: (one.event, one.created), default=None)


def assert_reads(held, rows, seed=0):
    dice = random.Random(seed)
    for _ in range(60):
        as_of, known_at = dice.randint(-1, 31), dice.randint(-1, 31)
        asked = dice.choices([*KEYS, "unknown"], k=12)
        found = held.latest(asked, as_of, known_at)
        assert found == [naive(rows, key, as_of, known_at) for key in asked]


def fill(held, sizes, seed=1):
    dice, rows = random.Random(seed), []
    for number, size in enumerate(sizes):
        new = {
            (one.entity, one.event, one.created): one
            for one in (row(dice.choice(KEYS), dice.randint(0, 30), dice.randint(0, 30)) for _ in range(size))
        }
        append(held, f"f{number}", list(new.values()), beyond=number % 5 == 4)
        rows += new.values()
    return rows


SIZES = ([5], [30], [9] * 7, [200, 3, 50, 12, 4, 90, 15], [3] * 90, [15] * 40)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_reads_equal_a_naive_search_before_and_after_merging_and_when_opened_again(tmp_path, sizes):
    held = ViewStore(tmp_path, VIEW, BUFFER)
    rows = fill(held, sizes)
    assert_reads(held, rows)
    settle(held)
    assert_reads(held, rows)
    assert_reads(ViewStore(tmp_path, VIEW, BUFFER), rows)


def test_memory_and_the_number_of_runs_are_bounded(tmp_path):
    held = ViewStore(tmp_path, VIEW, BUFFER)
    for number in range(120):
        append(held, f"f{number}", [row(f"e{number}-{at}", at, at) for at in range(9)])
        settle(held)
        assert len(held._held.rows) <= BUFFER + 9
        assert len(held._held.runs) <= 4 * 3
    assert len(held) == 120 * 9
    assert len(list((tmp_path / "offline" / "views").iterdir())) == len(held._held.runs) + len(held._held.small)


def test_a_merge_is_not_seen_before_it_is_committed_and_reads_go_on(tmp_path):
    held = ViewStore(tmp_path, VIEW, BUFFER)
    rows = fill(held, [9] * 7)
    files, paths = held.due()
    staged = held.merge(files, paths)
    assert_reads(held, rows)
    late = [row("e1", 30, 30, "while it merged")]
    append(held, "late", late)
    held.commit(files, staged, paths)
    assert_reads(held, rows + late)
    assert not any(path.exists() for path in paths)


def test_keys_that_share_a_hash_are_told_apart(tmp_path, monkeypatch):
    for module in (runs, store):
        monkeypatch.setattr(module, "hash_keys", lambda keys: np.array([len(key) % 2 for key in keys], np.uint64))
    monkeypatch.setattr(runs, "hash_key", lambda key: len(key) % 2)
    held = ViewStore(tmp_path, VIEW, BUFFER)
    rows = fill(held, [100, 60, 5])
    assert held._held.runs and all(run.shared for run in held._held.runs.values())
    assert_reads(held, rows)
    alone = ViewStore(tmp_path / "alone", VIEW, BUFFER)
    append(alone, "one", [row("e1", at, at) for at in range(20)])
    append(alone, "two", [row("e2", at, at) for at in range(25)])
    assert not any(run.shared for run in alone._held.runs.values())
    assert_reads(alone, [*(row("e1", at, at) for at in range(20)), *(row("e2", at, at) for at in range(25))])


def test_a_run_that_is_lost_or_belongs_to_another_file_is_made_anew(tmp_path):
    held = ViewStore(tmp_path, VIEW, BUFFER)
    rows = fill(held, [200, 300])
    directories = sorted((tmp_path / "index" / "views" / "offline").iterdir())
    assert len(directories) == 2
    shutil.rmtree(directories[0])
    about = directories[1] / "about.json"
    about.write_text(json.dumps({"made_of": [1, 2], "shared": []}))
    (tmp_path / "index" / "views" / "offline" / "orphan").mkdir()
    assert_reads(ViewStore(tmp_path, VIEW, BUFFER), rows)
    assert sorted((tmp_path / "index" / "views" / "offline").iterdir()) == directories


def test_a_file_larger_than_what_is_sorted_at_once_is_sorted_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "PART_ROWS", 50)
    monkeypatch.setattr(store, "PART_ROWS", 50)
    held = ViewStore(tmp_path, VIEW, BUFFER)
    rows = fill(held, [600])
    assert_reads(held, rows)
    [run] = held._held.runs.values()
    order = list(zip(run.hashes.tolist(), run.event.tolist(), run.created.tolist(), strict=True))
    assert order == sorted(order) and len(order) == len(rows)
    assert len(list((tmp_path / "index" / "views" / "offline").iterdir())) == 1


def test_an_entity_with_many_rows_is_searched_not_scanned(tmp_path):
    held = ViewStore(tmp_path, VIEW, BUFFER)
    append(held, "many", [row("e1", at, at, f"{at}") for at in range(9000)])
    append(held, "few", [row("e1", 8500, 9500, "late"), row("e2", 5, 5, "two")])
    found = held.latest(["e1", "e2", "e1"], np.array([4321, 9, 8600]), np.array([9000, 9, 9500]))
    assert [one.values["answer"] for one in found] == ["4321", "two", "8600"]
    assert held.latest(["e1"], 8599, 8550)[0].values["answer"] == "8550"


def test_rows_hold_no_longer_than_the_ttl(tmp_path):
    held = ViewStore(tmp_path, View("views", VIEW.fields, ttl=10), BUFFER)
    append(held, "f", [row("e1", 100, 1)])
    found = [held.latest(["e1"], when, 1)[0] is not None for when in (99, 100, 110, 111)]
    assert found == [False, True, True, False]


def test_unwanted_rows_leave_every_file_and_the_others_stay(tmp_path):
    held = ViewStore(tmp_path, VIEW, BUFFER)
    rows = fill(held, [200, 5, 9, 50, 60, 3])
    assert held.remove(lambda keys: pc.equal(keys, "e3")) == sum(one.entity == "e3" for one in rows)
    left = [one for one in rows if one.entity != "e3"]
    for opened in (held, ViewStore(tmp_path, VIEW, BUFFER)):
        assert_reads(opened, left)
    assert held.remove(lambda keys: pc.equal(keys, "e3")) == 0
    assert not any(b"e3 " in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_a_field_that_is_new_is_its_types_zero_in_older_rows(tmp_path):
    fill(ViewStore(tmp_path, VIEW, BUFFER), [100, 5])
    wider = View("views", {**VIEW.fields, "count": int})
    held = ViewStore(tmp_path, wider, BUFFER)
    found = held.latest(KEYS, 30, 30)
    assert {one.values["count"] for one in found if one} == {0} and any(found)
    schemas = {str(pq.read_schema(path)) for path in (tmp_path / "offline" / "views").iterdir()}
    assert len(schemas) == 1


def test_a_file_that_others_wrote_needs_feasts_timestamps_only(tmp_path):
    when, created = parse_instant("2001-02-03"), parse_instant("2002-02-03")
    stamp = pa.timestamp("ns", tz="UTC")
    table = {
        "entity_key": ["e1"],
        "event_timestamp": pa.array([when * 1000], pa.int64()).cast(stamp),
        "created": pa.array([created * 1000], pa.int64()).cast(stamp),
        "score": [0.5],
    }
    (tmp_path / "offline" / "views").mkdir(parents=True)
    pq.write_table(pa.table(table), tmp_path / "offline" / "views" / "theirs.parquet")
    held = ViewStore(tmp_path, View("views", {"score": float}), BUFFER)
    assert held.latest(["e1"], when - 1, created) == held.latest(["e1"], when, created - 1) == [None]
    assert held.latest(["e1"], when, created) == [FeatureRow("e1", True, when, created, {"score": 0.5})]
