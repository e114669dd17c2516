"""The pool of parser processes: a file that breaks a limit costs itself, and nothing else."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.parsers import pool as pools
from pipelines.parsers.base import MIB, Limits, Unreadable
from pipelines.parsers.pool import ParserPool
from tests.fakes import files

LIMITS = Limits()
SLOW = "<html><body>" + "".join(f"<p>The harbour {n} opened and ships came.</p>" for n in range(60_000))


@contextmanager
def pool(processes=1, **changed):
    found = ParserPool(replace(LIMITS, **changed), processes)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def put(tmp_path):
    def write(data, name="file"):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return str(path)

    return write


def refused(parse, *args):
    with pytest.raises(Unreadable) as caught:
        parse(*args)
    return str(caught.value)


def test_a_process_is_started_when_needed_and_used_again(put):
    with pool() as parsers:
        assert parsers.pids() == []
        assert parsers.document(put(files.PAGE), "html").fields["title"] == "Harbour"
        first = parsers.pids()
        assert parsers.document(put(files.pdf(["One.", "Two."])), "pdf").pages == (0, 6)
        assert parsers.document(put(files.word()), "docx").text.startswith("# Harbour")
        assert "not a PDF" in refused(parsers.document, put("Hello"), "pdf")
        assert parsers.pids() == first and len(first) == 1
    assert not any(psutil.pid_exists(pid) for pid in first)


def test_a_file_that_takes_too_long_is_named_and_the_next_goes_in(put):
    with pool(seconds=1.0) as parsers:
        parsers.document(put(files.PAGE), "html")
        began = time.monotonic()
        assert refused(parsers.document, put(SLOW), "html") == "took longer than 1 s"
        assert time.monotonic() - began < 5
        assert parsers.document(put(files.word()), "docx").text


def test_a_file_that_needs_too_much_memory_is_named_and_the_next_goes_in(put):
    with pool(memory_bytes=300 * MIB, unpacked_bytes=2**40) as parsers:
        path = put(files.pdf(["One."]))
        with Path(path).open("r+b") as stream:
            stream.seek(400 * MIB)
            stream.write(b"%%EOF")
        reason = refused(parsers.document, path, "pdf")
        assert reason == "needs more memory than 300 MiB"
        assert parsers.document(put(files.word()), "docx").text


def test_html_of_one_line_of_50_mb_is_refused_in_seconds(put):
    with pool() as parsers:
        began = time.monotonic()
        line = b"<html><body><p>" + b"The harbour opened in 1901 and ships came. " * (50 * MIB // 43)
        assert "more than 16 MiB of text" in refused(parsers.document, put(line), "html")
        assert time.monotonic() - began < 20


def test_a_process_that_dies_on_a_file_is_named_and_replaced(put, monkeypatch):
    with pool() as parsers:
        monkeypatch.setattr(pools._Process, "ask", _killed_then(pools._Process.ask, fresh=True))
        assert refused(parsers.document, put(files.PAGE), "html") == "its parser broke down on it (SIGKILL)"


def test_a_process_that_had_worked_before_is_not_held_against_the_file(put, monkeypatch):
    with pool() as parsers:
        parsers.document(put(files.PAGE), "html")
        monkeypatch.setattr(pools._Process, "ask", _killed_then(pools._Process.ask, fresh=False))
        assert parsers.document(put(files.PAGE), "html").text


def _killed_then(ask, fresh):
    """The process is killed before it is asked; one that is new only if `fresh`."""

    def killed(process, request):
        if fresh or process.served:
            os.kill(process.pid, signal.SIGKILL)
        return ask(process, request)

    return killed


def test_a_process_is_replaced_after_so_many_files(put, monkeypatch):
    monkeypatch.setattr(pools, "FILES_PER_PROCESS", 2)
    with pool() as parsers:
        path = put(files.PAGE)
        seen = []
        for _ in range(4):
            parsers.document(path, "html")
            seen += parsers.pids()
        assert len(seen) == len(set(seen)) == 2


def test_no_more_processes_run_than_allowed(put):
    me, most, done = psutil.Process(), 0, threading.Event()
    path = put(files.PAGE)
    with pool(processes=2) as parsers, ThreadPoolExecutor(8) as threads:
        parsing = [threads.submit(parsers.document, path, "html") for _ in range(24)]
        while not done.is_set():
            most = max(most, sum("pipelines.parsers.worker" in child.cmdline() for child in _children(me)))
            if all(one.done() for one in parsing):
                done.set()
        assert {one.result().fields["title"] for one in parsing} == {"Harbour"}
    assert 1 <= most <= 2


def _children(process):
    return [child for child in process.children() if child.status() != psutil.STATUS_ZOMBIE]


def test_a_worker_can_write_no_file_and_holds_few_open(put):
    with pool() as parsers:
        parsers.document(put(files.PAGE), "html")
        (pid,) = parsers.pids()
        process = psutil.Process(pid)
        assert process.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
        assert process.rlimit(psutil.RLIMIT_AS) == (LIMITS.memory_bytes,) * 2
        assert process.rlimit(psutil.RLIMIT_NOFILE) == (64, 64)
        assert process.environ().keys() & {"ALMANAC_HOME", "ALMANAC_BROKER_URL"} == set()


def test_a_worker_ends_with_its_pool(put):
    parsers = ParserPool()
    parsers.document(put(files.PAGE), "html")
    (process,) = parsers._idle
    process._child.stdin.close()
    assert process._child.wait(timeout=5) == 0
    parsers.close()


def test_rows_of_a_parquet_file_come_as_they_are_taken(tmp_path):
    path = tmp_path / "rows.parquet"
    rows = [{"id": str(n), "text": f"Text {n}"} for n in range(1_000)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pool() as parsers:
        assert parsers.count(str(path)) == 1_000
        one, other = parsers.rows(str(path)), parsers.rows(str(path))
        assert [next(one), next(other), next(other)] == [rows[0], rows[0], rows[1]]
        assert [*one] == rows[1:] and [*other] == rows[2:]


def test_a_file_that_is_not_there_or_not_to_be_read_says_so(tmp_path):
    with pool() as parsers:
        assert refused(parsers.document, str(tmp_path / "gone"), "html") == "cannot be read: No such file or directory"
        assert refused(parsers.document, str(tmp_path), "html") == "cannot be read: Is a directory"
