"""The command line against a gateway made of canned answers, put in at the client's transport."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from services.admin import jobs as following
from services.admin.__main__ import app
from services.admin.state import Places, StackState, locked, write_state

Handler = Callable[[httpx.Request], httpx.Response]

JOB = {
    "id": "j1",
    "kind": "documents",
    "collection": "default",
    "state": "done",
    "total": 2,
    "done": 2,
    "counts": {"documents": 1, "versions": 1, "passages": 3, "encoded": 3, "skipped": 0, "failed": 1},
    "failures": [{"source": "b.jsonl", "line": 7, "id": "x", "reason": "valid_to does not follow"}],
    "error": None,
    "created_at": "2026-01-01T00:00:00Z",
}
CITATION = {
    "n": 1,
    "kind": "fact",
    "doc_id": "",
    "title": "Who led Siemens?",
    "uri": "en.wikipedia.org/wiki/Siemens",
    "quote": "Joe Kaeser",
    "valid_from": "2013-08-01T00:00:00Z",
    "valid_to": None,
    "recorded_from": "2024-01-01T00:00:00Z",
    "dated": True,
}
ANSWER = {
    "answer": "Joe Kaeser",
    "citations": [CITATION],
    "moment": {"as_of": "2016-01-01T00:00:00Z", "known_at": "2025-01-01T00:00:00Z"},
    "grounding": "quoted",
    "degraded": [],
    "timings_ms": {"encode": 3.2, "retrieve": 11.0},
}


def sse(*events: tuple[str, Any]) -> httpx.Response:
    text = ": heartbeat\n\n" + "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
    return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})


class Stub:
    """A gateway that answers by method and path and keeps the requests."""

    def __init__(self, answers: dict[str, httpx.Response | Handler]) -> None:
        self.answers = answers
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.seen.append(request)
        found = self.answers[f"{request.method} {request.url.path}"]
        return found(request) if callable(found) else found

    def run(self, *args: object) -> Result:
        return CliRunner().invoke(app, [str(arg) for arg in args], obj=httpx.MockTransport(self))

    def body(self, index: int = 0) -> Any:
        return json.loads(self.seen[index].content)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ALMANAC_URL", "ALMANAC_PORT", "ALMANAC_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALMANAC_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(following, "_LOOK_SECONDS", 0.0)
    return tmp_path / "home"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from services.admin.__main__ import app\n"
        "try: app(['eval', 'asof', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'httpx', 'grpc', 'pydantic_settings', 'rich', 'numpy', 'redis'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("search", "q", "--as-of", "May"),
        ("ask", "q", "--known-at", "2019-13-01"),
        ("compare", "q", "--at", "2019-01-01", "--at", "May"),
        ("compare", "q"),
        ("ingest", "x.md", "--valid-from", "soon"),
        ("ingest", "/no/such/file.md"),
        ("ingest",),
        ("search", "q", "--limit", 101),
        ("facts", "load", "/no/such.jsonl"),
        ("eval", "asof", "/no/such.jsonl"),
        ("models", "pull", "no-such-model"),
        ("up", "--port", 0),
        ("nonsense",),
    ],
)
def test_wrong_use_exits_with_2_and_asks_no_gateway(args: tuple[object, ...]) -> None:
    stub = Stub({})
    done = stub.run(*args)
    assert done.exit_code == 2, done.output
    assert done.stderr
    assert not stub.seen


def test_a_setting_that_is_nonsense_is_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALMANAC_PORT", "http")
    done = Stub({}).run("collections")
    assert done.exit_code == 2
    assert "ALMANAC_PORT" in done.stderr


def test_without_a_stack_the_command_says_how_to_start_one() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    done = Stub({"GET /v1/collections": refuse}).run("collections")
    assert done.exit_code == 1
    assert done.stderr == "almanac: no stack answers at http://127.0.0.1:8420; start it with `almanac up`\n"


def test_problem_details_become_one_line() -> None:
    body = {"type": "urn:x", "title": "Collection not found", "status": 404, "detail": "no collection\nnamed x"}
    done = Stub({"POST /v1/search": httpx.Response(404, json=body)}).run("search", "q", "-c", "x")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr == "almanac: Collection not found: no collection named x\n"


def test_an_answer_that_is_not_the_gateways_is_said_to_be_so() -> None:
    done = Stub({"GET /v1/jobs": httpx.Response(200, text="<html>")}).run("jobs", "list")
    assert done.exit_code == 1
    assert "no Almanac gateway" in done.stderr


def test_the_gateway_is_found_by_url_then_port_then_the_homes_stack(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> str:
        stub = Stub({"GET /v1/collections": httpx.Response(200, json={"collections": []})})
        assert stub.run("collections").exit_code == 0
        return str(stub.seen[0].url.copy_with(path="/"))

    assert asked() == "http://127.0.0.1:8420/"
    with locked(Places(home), "http://127.0.0.1:9001"):
        write_state(Places(home), StackState(1, 9001, "http://127.0.0.1:9001", True))
        assert asked() == "http://127.0.0.1:9001/"
        monkeypatch.setenv("ALMANAC_PORT", "9002")
        assert asked() == "http://127.0.0.1:9002/"
        monkeypatch.setenv("ALMANAC_URL", "http://elsewhere:1/")
        assert asked() == "http://elsewhere:1/"


@pytest.mark.parametrize(
    ("args", "path", "document"),
    [
        (("collections",), "GET /v1/collections", {"collections": [{"name": "ö"}]}),
        (("jobs", "list"), "GET /v1/jobs", {"jobs": [JOB]}),
        (("jobs", "show", "j1"), "GET /v1/jobs/j1", JOB),
        (("search", "q"), "POST /v1/search", {"hits": [], "moment": {}}),
    ],
)
def test_reading_commands_print_the_document_alone(args: tuple[str, ...], path: str, document: Any) -> None:
    done = Stub({path: httpx.Response(200, json=document)}).run(*args, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == document
    assert done.stderr == ""


def test_search_sends_the_moment_as_written_and_leaves_out_what_was_not_given() -> None:
    stub = Stub({"POST /v1/search": httpx.Response(200, json={"hits": [], "moment": {}})})
    stub.run("search", "q", "--as-of", "2019-03-01", "-n", 5, "--json")
    assert stub.body() == {"query": "q", "collection": "default", "as_of": "2019-03-01", "limit": 5}


def test_hits_are_shown_as_text_never_as_terminal_codes() -> None:
    hit = {"n": 1, "doc_id": "d", "title": "\x1b[31mred[/]", "text": "a\nb\x07", "score": 0.5, "dated": False}
    found = {"hits": [hit], "moment": {"as_of": "2019-03-01T00:00:00Z"}, "degraded": ["encoder"], "timings_ms": {}}
    done = Stub({"POST /v1/search": httpx.Response(200, json=found)}).run("search", "q")
    assert "[1] [31mred[/]  undated" in done.stdout
    assert "    a b\n" in done.stdout
    assert "as of 2019-03-01" in done.stdout
    assert "without: encoder" in done.stderr


def test_an_explained_search_shows_scores_with_ranks_stages_and_the_generation() -> None:
    shown = {"n": 1, "doc_id": "d", "title": "D", "text": "t", "dated": False, "passage_id": "p1", "score": 1.25}
    scores = {"dense": 0.5, "dense_rank": 3, "lexical": None, "lexical_rank": None}
    stage = {"name": "dense", "method": "codes", "passing": 7, "points": 9, "ms": 0.5}
    plan = {"generation": "g2", "encoder": "e", "dimensions": 8, "funnel": {"fusion": "dbsf"}, "stages": [stage]}
    features = [{"name": "cited", "value": 0.25, "weight": 0.1}, {"name": "helpful", "value": -0.5, "weight": 0.0}]
    hit = {**shown, **scores, "features": features}
    found = {"hits": [hit], "moment": {}, "timings_ms": {"encode": 3.0}, "explain": plan}
    stub = Stub({"POST /v1/search": httpx.Response(200, json=found)})
    done = stub.run("search", "q", "--explain")
    assert done.exit_code == 0, done.output
    assert stub.body()["explain"] is True
    assert "1\tp1\t0.5000 (#3)\t–\t1.2500 (#1)" in done.stdout
    assert "1\td\t0.250 × 0.1\t-0.500 × 0" in done.stdout
    assert "  dense\tcodes\t7\t9\t0.50" in done.stdout
    assert "generation g2: e, 8 dimensions; fusion dbsf" in done.stdout


def test_feedback_sends_one_word_and_says_whether_it_was_new() -> None:
    stub = Stub({"POST /v1/answers/a1/feedback": httpx.Response(200, json={"changed": True})})
    done = stub.run("feedback", "a1", "down", "--note", "of no use")
    assert done.exit_code == 0 and done.stdout == "noted\n", done.output
    assert stub.body() == {"helpful": False, "note": "of no use"}
    assert stub.run("feedback", "a1", "sideways").exit_code == 2


REPLAYED = {
    "moment": {"as_of": "2016-01-01T00:00:00Z", "known_at": "2025-01-01T00:00:00Z"},
    "generation": "g1",
    "exact": True,
}


def test_a_replay_says_what_differs_and_fails_where_something_does() -> None:
    same = {**REPLAYED, "identical": True, "overlap": 1.0, "differences": []}
    done = Stub({"POST /v1/answers/a1/replay": httpx.Response(200, json=same)}).run("replay", "a1")
    assert done.exit_code == 0 and done.stdout.startswith("identical\n"), done.output
    assert "as of 2016-01-01, as known at 2025-01-01, g1, exact search, 100% of the passages" in done.stdout
    gone = [{"what": "evidence", "why": "erased", "detail": "a document was erased"}]
    other = {**REPLAYED, "identical": False, "overlap": None, "differences": gone}
    stub = Stub({"POST /v1/answers/a1/replay": httpx.Response(200, json=other)})
    done = stub.run("replay", "a1")
    assert done.exit_code == 1 and "evidence\terased\ta document was erased\nnot identical" in done.stdout
    assert json.loads(stub.run("replay", "a1", "--json").stdout) == other


def test_a_timeline_that_was_cut_short_says_so() -> None:
    entry = {"valid_from": None, "valid_to": "2013-08-01T00:00:00Z", "answer": "Löscher", "citations": [{"title": "T"}]}
    found = {"entries": [entry], "known_at": "2025-01-01T00:00:00Z", "complete": False}
    stub = Stub({"POST /v1/answers/timeline": httpx.Response(200, json=found)})
    done = stub.run("timeline", "Who led Siemens?")
    assert "… – 2013-08-01\tLöscher\tT" in done.stdout and "left out" in done.stderr
    assert stub.body() == {"question": "Who led Siemens?", "collection": "default"}


def test_an_answer_says_that_its_moment_is_from_the_question() -> None:
    answer = {**ANSWER, "moment_from": "question", "moment_phrase": "in 2016"}
    done = Stub({"POST /v1/answers": sse(("done", {"answer": answer}))}).run("ask", "Who led Siemens in 2016?")
    assert "as known at 2025-01-01, from “in 2016”" in done.stdout


def test_ask_shows_the_text_as_it_comes_then_citations_and_timings() -> None:
    events = sse(("step", {"step": "encode", "ms": 3}), ("text", {"text": "Joe "}), ("text", {"text": "Kaeser"}))
    stub = Stub({"POST /v1/answers": httpx.Response(200, text=events.text + sse(("done", {"answer": ANSWER})).text)})
    done = stub.run("ask", "Who led Siemens?", "--as-of", "2016-01-01")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Joe Kaeser\n")
    assert "[1] Who led Siemens?  fact, 2013-08-01 – …" in done.stdout
    assert "quoted, as of 2016-01-01, as known at 2025-01-01" in done.stdout
    assert "encode 3 ms · retrieve 11 ms" in done.stdout
    assert stub.body()["stream"] is True


def test_ask_as_json_is_the_answer_alone() -> None:
    for data in ({"answer": ANSWER}, ANSWER):
        stub = Stub({"POST /v1/answers": sse(("text", {"text": "Joe"}), ("done", data))})
        done = stub.run("ask", "Who led Siemens?", "--json")
        assert json.loads(done.stdout) == ANSWER


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (
            [("text", {"text": "Joe"}), ("error", {"problem": {"title": "Unavailable", "detail": "retry"}})],
            "Unavailable: retry",
        ),
        ([("text", {"text": "Joe"})], "broke off"),
    ],
)
def test_an_answer_that_fails_under_way_fails_the_command(events: list[tuple[str, Any]], reason: str) -> None:
    done = Stub({"POST /v1/answers": sse(*events)}).run("ask", "q", "--json")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert reason in done.stderr


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    inside = tmp_path / "docs" / "sub"
    inside.mkdir(parents=True)
    (tmp_path / "docs" / "a.md").write_text("# A")
    (inside / "a.md").write_text("# other A")
    (inside / "picture.png").write_text("no")
    (inside / ".hidden.md").write_text("no")
    return tmp_path / "docs"


def test_ingest_uploads_what_lies_in_a_directory_under_names_from_there(documents: Path) -> None:
    stub = Stub({"POST /v1/documents": httpx.Response(202, json={"job": {**JOB, "state": "queued"}})})
    done = stub.run("ingest", documents, "-c", "notes", "--valid-from", "2019-03-01")
    assert done.exit_code == 0, done.output
    assert "2 files sent" in done.stdout and "jobs show j1" in done.stdout
    sent = stub.seen[0].content.decode()
    assert sent.count("filename=") == 2
    assert 'filename="a.md"' in sent and 'filename="sub/a.md"' in sent
    assert 'name="collection"\r\n\r\nnotes' in sent
    assert 'name="valid_from"\r\n\r\n2019-03-01' in sent
    assert "history" not in sent


def test_ingest_takes_globs_and_sends_each_file_once(documents: Path) -> None:
    stub = Stub({"POST /v1/documents": httpx.Response(202, json={"job": JOB})})
    stub.run("ingest", documents / "**" / "*.md", documents / "a.md")
    assert stub.seen[0].content.decode().count("filename=") == 2


def test_ingest_splits_many_files_but_never_a_history(documents: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_MOST_FILES", 1)
    for option, requests in (((), 2), (("--history",), 1)):
        stub = Stub({"POST /v1/documents": httpx.Response(202, json={"job": JOB})})
        stub.run("ingest", documents, *option)
        assert len(stub.seen) == requests
        assert (b'name="history"\r\n\r\ntrue' in stub.seen[0].content) is bool(option)


def job_stub(final: dict[str, Any], kind: str = "documents") -> Stub:
    states = [{**JOB, "state": "running", "total": None, "done": 0}, {**JOB, "state": "running", "done": 1}]

    def job(request: httpx.Request) -> httpx.Response:
        if request.headers["accept"] == "text/event-stream":
            return sse(*(("progress", state) for state in states), ("done", final))
        return httpx.Response(200, json=final)

    accepted = httpx.Response(202, json={"job": {**JOB, "state": "queued"}})
    return Stub({f"POST /v1/{kind}": accepted, "GET /v1/jobs/j1": job})


def test_ingest_waits_and_tells_counts_and_failures_and_still_is_done(documents: Path) -> None:
    done = job_stub(JOB).run("ingest", documents, "--wait")
    assert done.exit_code == 0, done.output
    assert "1 documents · 1 versions · 3 passages · 3 encoded · 0 skipped · 1 failed" in done.stdout
    assert "b.jsonl, line 7 (x): valid_to does not follow" in done.stderr


def test_ingest_wait_json_has_the_fixed_names(documents: Path) -> None:
    done = job_stub(JOB).run("ingest", documents, "--wait", "--json")
    found = json.loads(done.stdout)
    assert {name: found[name] for name in JOB["counts"]} == JOB["counts"]  # type: ignore[attr-defined]
    assert found["state"] == "done" and found["jobs"] == ["j1"] and len(found["failures"]) == 1
    assert done.stderr == ""


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_failed_job_fails_the_command_with_its_reason(documents: Path, as_json: tuple[str, ...]) -> None:
    final = {**JOB, "state": "failed", "error": "the encoder is gone"}
    done = job_stub(final).run("ingest", documents, "--wait", *as_json)
    assert done.exit_code == 1
    assert "job j1 failed: the encoder is gone" in done.stderr


def test_facts_are_waited_for_unless_told_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_text("{}\n")
    final = {**JOB, "kind": "facts", "counts": {"facts": 2, "questions": 1, "skipped": 0, "failed": 0}, "failures": []}
    done = job_stub(final, "facts").run("facts", "load", file)
    assert "2 facts · 1 questions · 0 skipped · 0 failed" in done.stdout
    stub = job_stub(final, "facts")
    stub.run("facts", "load", file, "--no-wait")
    assert len(stub.seen) == 1


def test_a_stream_that_breaks_is_taken_up_again(documents: Path) -> None:
    tries = iter([httpx.ReadError("gone"), httpx.ConnectError("restarting"), None])

    def job(request: httpx.Request) -> httpx.Response:
        if request.headers["accept"] == "text/event-stream" and (error := next(tries)) is not None:
            raise error
        return sse(("progress", JOB)) if "event" in request.headers["accept"] else httpx.Response(200, json=JOB)

    stub = Stub({"POST /v1/documents": httpx.Response(202, json={"job": JOB}), "GET /v1/jobs/j1": job})
    assert stub.run("ingest", documents, "--wait").exit_code == 0
    assert next(tries, "used up") == "used up"


def test_eval_asof_imports_histories_of_its_own_and_reports_one_object(tmp_path: Path) -> None:
    file, others = tmp_path / "facts.jsonl", tmp_path / "squad.json"
    rows = [("Who led Siemens?", "Joe Kaeser", "2013"), ("Who led Bosch?", "Franz Fehrenbach", "2003")]
    file.write_text(
        "".join(
            json.dumps({"question": q, "answer": a, "valid_from": f"{y}-08-01", "valid_to": f"{y}-12-01"}) + "\n"
            for q, a, y in rows
        )
    )
    others.write_text(
        json.dumps(
            {
                "data": [
                    {
                        "title": "t",
                        "paragraphs": [{"context": "", "qas": [{"question": "Why?", "answers": [{"text": "x"}]}]}],
                    }
                ]
            }
        )
    )

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        assert body["generate"] is False and body["collection"].startswith("eval-asof-")
        if "known_at" in body:
            assert body["known_at"] in ("2014-07-31T00:00:00Z", "2004-07-30T00:00:00Z")
        right = (
            "siemens" in body["question"].lower()
            and "known_at" not in body
            and body.get("as_of", "2013-10") >= "2013-09"
        )
        return httpx.Response(200, json={**ANSWER, "answer": "", "citations": [CITATION] if right else []})

    stub = job_stub({**JOB, "counts": {"failed": 0}, "failures": []}, "facts")
    stub.answers["POST /v1/answers"] = answer
    stub.answers["GET /v1/collections"] = httpx.Response(200, json={"collections": []})
    done = stub.run("eval", "asof", file, "--negatives", others, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert set(found) == {"name", "machine", "figures", "targets", "holds"}
    figures = found["figures"]
    assert set(found["targets"]) == {"accuracy", "leaks", "gaps", "paraphrased", "swapped", "false_matches"}
    assert (figures["accuracy"], figures["leaks"], figures["gaps"], figures["false_matches"]) == (0.5, 0, 0, 0)
    assert figures["paraphrased"] == 0.5
    assert found["holds"] is False
    sent = [request.content for request in stub.seen if request.url.path == "/v1/facts"]
    assert len(sent) == 2 and all(b'name="history"\r\n\r\ntrue' in content for content in sent)
    assert [b"recorded_at" in content for content in sent] == [True, False]


def test_eval_asof_asks_what_is_imported_already_and_only_a_sample(tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_text("".join(json.dumps({"question": f"Who led {n}?", "answer": "x"}) + "\n" for n in range(9)))
    imported = list[str]()

    def taken_in(request: httpx.Request) -> httpx.Response:
        imported.append(re.findall(rb"eval-asof-\w+", request.content)[0].decode())
        return httpx.Response(202, json={"job": {**JOB, "state": "queued"}})

    def held(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"collections": [{"name": name} for name in imported]})

    stub = job_stub({**JOB, "counts": {"failed": 0}, "failures": []})
    stub.answers |= {"POST /v1/facts": taken_in, "GET /v1/collections": held}
    stub.answers["POST /v1/answers"] = httpx.Response(200, json={**ANSWER, "citations": []})
    args = ("eval", "asof", file, "--sample", "2", "--json")
    found = [json.loads(stub.run(*args).stdout)["figures"] for _ in range(2)]
    assert found[0]["asked_spans"] == 2 and "false_matches" not in found[0]
    assert found[0] == found[1] and len(set(imported)) == len(imported) == 2


def test_eval_answers_asks_the_whole_and_a_half_that_cannot_answer(tmp_path: Path) -> None:
    file = tmp_path / "small.v1.json"
    asked = [{"question": "When?", "answers": [{"text": "1901"}]}, {"question": "Who?", "answers": [{"text": "Ann"}]}]
    paragraphs = [{"context": "Ann built it in 1901.", "qas": asked}]
    file.write_text(json.dumps({"data": [{"title": title, "paragraphs": paragraphs} for title in "ABCD"]}))

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if body["collection"] == "eval-small-half-5":
            return httpx.Response(200, json={**ANSWER, "answer": "Nothing.", "grounding": "abstained", "citations": []})
        assert body["collection"] == "eval-small" and body["generate"] is False
        cited = [{"n": 1, "quote": "It was built in 1901."}]
        said = {"answer": "It was built in 1901. [1]", "grounding": "quoted", "citations": cited}
        return httpx.Response(200, json={**ANSWER, **said})

    stub = job_stub({**JOB, "counts": {"failed": 0}, "failures": []})
    stub.answers["POST /v1/answers"] = answer
    stub.answers["GET /v1/collections"] = httpx.Response(200, json={"collections": []})
    done = stub.run("eval", "answers", file, "--sample", "8", "--seed", "5", "--no-generate", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert set(found["targets"]) == {"contains", "words_p90", "ungrounded", "abstained_unanswerable"}
    figures = found["figures"]
    assert (figures["contains"], figures["ungrounded"], figures["words_p90"]) == (0.5, 0.0, 6)
    assert (figures["abstained_unanswerable"], figures["asked_unanswerable"], found["holds"]) == (1.0, 4, False)
    sent = [request.content for request in stub.seen if request.url.path == "/v1/documents"]
    assert [content.count(b"Ann built it") for content in sent] == [4, 2]


def test_eval_retrieval_ingests_a_missing_corpus_and_ranks_every_judged_query(tmp_path: Path) -> None:
    corpus, queries, qrels = tmp_path / "c.jsonl", tmp_path / "q.jsonl", tmp_path / "qrels.tsv"
    corpus.write_text('{"id": "a", "title": "t", "text": "x"}\n')
    queries.write_text('{"id": "1", "text": "first"}\n{"id": "2", "text": "not judged"}\n')
    qrels.write_text("query_id\tdoc_id\trelevance\n1\ta\t1\n")
    stub = job_stub({**JOB, "counts": {"documents": 1, "failed": 0}, "failures": []})
    stub.answers["GET /v1/collections"] = httpx.Response(200, json={"collections": []})
    stub.answers["POST /v1/search"] = httpx.Response(200, json={"hits": [{"doc_id": "x"}, {"doc_id": "a"}]})
    args = ("eval", "retrieval", "--corpus", corpus, "--queries", queries, "--qrels", qrels, "-c", "sci", "--json")
    found = json.loads(stub.run(*args).stdout)
    assert found["figures"] == {"ndcg@10": 0.6309, "recall@10": 1.0, "recall@100": 1.0, "queries": 1}
    assert [request.url.path for request in stub.seen].count("/v1/documents") == 1

    stub.answers["GET /v1/collections"] = httpx.Response(200, json={"collections": [{"name": "sci", "documents": 1}]})
    stub.seen.clear()
    assert stub.run(*args).exit_code == 0
    assert "/v1/documents" not in [request.url.path for request in stub.seen]
    assert stub.body(1) == {"query": "first", "collection": "sci", "limit": 100}


def test_models_are_listed_with_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALMANAC_MODELS_DIR", str(tmp_path / "models"))
    found = json.loads(Stub({}).run("models", "list", "--json").stdout)["models"]
    assert {one["kind"] for one in found} == {"encoder", "generator"}
    assert all(one["path"] is None for one in found)


def test_status_and_down_say_that_no_stack_runs(home: Path) -> None:
    done = Stub({}).run("status", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {"home": str(home), "running": False, "ready": False}
    assert Stub({}).run("down").stdout == f"no stack runs in {home}\n"


def test_up_names_the_stack_that_already_runs(home: Path) -> None:
    with locked(Places(home), "http://127.0.0.1:8420"):
        done = Stub({}).run("up")
    assert done.exit_code == 1
    assert "a stack already runs" in done.stderr and "almanac down" in done.stderr
