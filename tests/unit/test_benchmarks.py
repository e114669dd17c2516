"""What benchmarks compute from what they measured."""

import asyncio

import pytest

from benchmarks.footprint import on_disk
from benchmarks.gateway import _percentiles, _ratio
from benchmarks.http_load import Reply, connect, events, listen, post
from benchmarks.retrieval import DEFAULT_NAME, funnels, modes
from benchmarks.search_load import _held, _times
from services.common.nodes.funnel import DEFAULT


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("segment/vectors.bin", "full_vectors"),
        ("segment/index-9.coarse/segments/s/vector_storage-coarse/matrix.dat", "full_vectors"),
        ("segment/index-9.coarse/segments/s/vector_storage-coarse/quantized.data", "codes"),
        ("segment/index-9.coarse/lists.faiss", "codes"),
        ("segment/index-9.coarse/segments/s/vector_index-coarse/links.bin", "graph"),
        ("segment/index-9.postings", "bm25"),
        ("segment/terms.bin", "terms"),
        ("segment/rows.bin", "rows"),
        ("segment/texts.bin", "texts"),
        ("state.json", "other"),
    ],
)
def test_a_file_counts_as_the_part_it_holds(tmp_path, path, part):
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x" * 5_000)
    found = on_disk(tmp_path)
    assert found[part] >= 5_000 and sum(found.values()) == found[part]


def test_a_hole_in_a_file_takes_no_bytes(tmp_path):
    with (tmp_path / "page_0.dat").open("wb") as file:
        file.truncate(32 << 20)
    assert sum(on_disk(tmp_path).values()) < 1 << 20


def test_throughput_that_falls_between_any_two_numbers_of_clients_is_told():
    assert _held({1: 100.0, 4: 200.0, 16: 150.0, 64: 600.0}) == 0.75
    assert _held({1: 100.0, 4: 110.0}) == 1.1


def test_a_gateway_is_measured_round_by_round_against_the_bare_route():
    assert _ratio([50.0, 80.0, 90.0], [100.0, 100.0, 100.0]) == 0.8
    replies = [Reply(200, ms / 1000, ms / 1000, ms / 1000) for ms in range(100)]
    assert _percentiles(replies)[0] == {"until": "headers", "p50": 50.0, "p95": 95.0}


async def test_a_stream_is_timed_from_its_sending_and_a_refusal_is_no_end():
    async def serve(reader, writer):
        await reader.readuntil(b"{}")
        lines = [b"HTTP/1.1 200 OK", b"", b"id: a/1", b"", b"event: text", b"data: {}", b"", b"event: done", b""]
        writer.write(b"\r\n".join(lines) if not served else b"HTTP/1.1 503 Full\r\n\r\n")
        served.append(1)
        writer.close()

    served = []
    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        whole, refused = [await listen(port, post("/v1/answers", {}), asyncio.Event()) for _ in range(2)]
    assert whole.ended and 0 < whole.headers <= whole.first <= whole.text
    assert (refused.status, refused.ended) == (503, False)


async def test_a_connection_gives_the_events_of_one_stream_after_the_other_and_no_refusal():
    def chunk(text):
        return b"%x\r\n%s\r\n" % (len(text), text)

    async def serve(reader, writer):
        for turn in (b"1", b"2"):
            await reader.readuntil(b"{}")
            told = chunk(b"id: a/1\r\nevent: text\r\ndata: 0" + turn + b"\r\n\r\n") + chunk(b": still here\r\n\r\n")
            told += chunk(b"event: done\r\ndata: {}\r\n\r\n") + chunk(b"")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + told)
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 503 Full\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        connection = await connect(server.sockets[0].getsockname()[1])
        streams = [[event async for event in events(*connection, post("/v1/answers", {}))] for _ in range(2)]
        with pytest.raises(RuntimeError, match="503 Full"):
            [event async for event in events(*connection, post("/v1/answers", {}))]
        connection[1].close()
    assert streams == [[("text", b"0%d\r\n" % turn), ("done", b"{}\r\n")] for turn in (1, 2)]


def test_percentiles_are_taken_over_all_rounds():
    turns = [{"ms": {"search": [float(ms) for ms in part]}} for part in (range(50), range(50, 100))]
    assert _times("retriever", {4: turns}) == [
        {"side": "retriever", "clients": 4, "step": "search", "p50": 50.0, "p95": 95.0}
    ]


def test_the_default_funnel_is_measured_whatever_else_is_chosen():
    chosen = funnels(["rotated 64"])
    assert chosen[DEFAULT_NAME.replace(" ", "-")] == DEFAULT
    names = [mode.name for mode in modes(chosen)]
    assert f"fused {DEFAULT_NAME}" in names and "dense rotated 64 alone" in names
