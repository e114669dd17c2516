"""Clients that misbehave below HTTP: what they send, and a process that sends all of it, again and again.

`python -m tests.flood PORT` goes on until it is ended.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import cycle

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/answers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
LAST = b"Connection: close\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
KIB = 1024

MESSAGES: dict[str, tuple[bytes, int]] = {
    "a byte that is no letter in the method": (b"G\x00T / HTTP/1.1\r\n\r\n", 400),
    "a NUL in the target": (b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "an escaped NUL in the path": (b"GET /v1/answers/%00 HTTP/1.1\r\nHost: localhost\r\n" + LAST, 400),
    "an escaped NUL in the query": (b"GET /v1/documents?after=%00 HTTP/1.1\r\nHost: localhost\r\n" + LAST, 400),
    "Latin-1 in the target": (b"GET /\xe9 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "half a surrogate, escaped": (b"GET /v1/answers/%ED%A0%80 HTTP/1.1\r\nHost: localhost\r\n" + LAST, 404),
    "an escape that is none": (b"GET /v1/answers/%zz HTTP/1.1\r\nHost: localhost\r\n" + LAST, 404),
    "an absolute target": (b"GET http://elsewhere.example/healthz HTTP/1.1\r\nHost: localhost\r\n" + LAST, 200),
    "a target with an authority alone": (b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "the asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n" + LAST, 404),
    "a target of 64 KiB": (b"GET /" + b"a" * 64 * KIB + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
    "a host that is no name": (b"GET /v1/collections HTTP/1.1\r\nHost: [\r\n" + LAST, 403),
    "no host": (b"GET /v1/collections HTTP/1.1\r\n" + LAST, 403),
    "bytes above ASCII in headers": (GET + b"Authorization: Bearer \xff\xfe\r\ntraceparent: \xff\r\n" + LAST, 200),
    "a header without a colon": (GET + b"nothing\r\n" + LAST, 400),
    "a folded header": (GET + b"X: a\r\n b\r\n" + LAST, 400),
    "a header of 64 KiB": (GET + b"X: " + b"a" * 64 * KIB + b"\r\n" + LAST, 431),
    "ten thousand headers": (GET + b"a:b\r\n" * 10_000 + LAST, 431),
    "nothing but line ends": (b"\r\n" * 40_000, 431),
    "a hello of TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a version that is none": (b"GET /healthz HTTP/7.3\r\nHost: localhost\r\n\r\n", 400),
    "an upgrade to WebSocket": (GET + b"Connection: upgrade, close\r\nUpgrade: websocket\r\n\r\n", 200),
    "an upgrade to HTTP/2": (GET + b"Connection: upgrade, close\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n", 200),
    "a negative chunk": (CHUNKED + b"-5\r\nhello\r\n", 400),
    "a chunk without a size": (CHUNKED + b"zz\r\nhello\r\n", 400),
    "a chunk beyond 64 bits": (CHUNKED + b"fffffffffffffffff\r\nhello\r\n", 400),
    "a chunk longer than it says": (CHUNKED + b"1\r\nhello\r\n0\r\n\r\n", 400),
    "a trailer of 64 KiB": (CHUNKED + b"2\r\n{}\r\n0\r\nT: " + b"a" * 64 * KIB + b"\r\n\r\n", 431),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n{}", 400),
    "two lengths": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    "a length and chunks": (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400),
    "a length beyond all": (POST + b"Content-Length: 99999999999\r\n" + LAST, 413),
    "a body that is not UTF-8": (POST + b"Content-Length: 3\r\n" + LAST + b'"\xff"', 400),
    "a request, then garbage": (GET + b"\r\n" + b"\x00\xff" * 100, 200),
    "a hundred requests at once": ((GET + b"\r\n") * 100, 200),
    "half a head": (GET, 408),
    "half a body": (POST + b"Content-Length: 10\r\n" + LAST + b"{}", 408),
    "half a message of the protocol for models": (
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
        + LAST
        + b"{",
        408,
    ),
}
"""What is sent, and the status that answers it."""


def broken(dice: random.Random) -> bytes:
    """One of the messages, or a right one, with some of its bytes changed, lost, doubled or put elsewhere."""
    right = [
        GET + LAST,
        POST + b"Content-Length: 16\r\n" + LAST + b'{"question":"?"}',
        CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    ]
    text = bytearray(dice.choice([*right, *(message for message, _ in MESSAGES.values() if len(message) < KIB)]))
    for _ in range(dice.randint(1, 6)):
        at, span = dice.randrange(len(text) + 1), dice.randint(1, 12)
        piece = dice.choice(
            (dice.randbytes(span), text[at : at + span] * 3, b"\r\n", b"\x00", b" ", b":", b"", b"9" * span)
        )
        text[at : at + dice.choice((0, span))] = piece
    return bytes(text)


async def tell(port: int, pieces: Sequence[bytes], seconds: float, pause: float = 0.0) -> bytes:
    """What comes back until the gateway closes the connection, or for so many seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = bytearray()
    try:
        async with asyncio.timeout(seconds):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            while chunk := await reader.read(64 * KIB):
                got += chunk
    except (TimeoutError, OSError):
        pass
    finally:
        writer.transport.abort()
    return bytes(got)


async def hold(port: int) -> None:
    """A connection that says nothing, opened again when it is closed."""
    while True:
        with suppress(OSError):
            await tell(port, [], 3_600)


async def drip(port: int) -> None:
    """A byte a second."""
    while True:
        with suppress(OSError):
            await tell(port, [GET[at : at + 1] for at in range(len(GET))], 3_600, pause=1.0)


async def shout(port: int, messages: Iterator[bytes]) -> None:
    """Twenty messages a second."""
    for message in messages:
        with suppress(OSError):
            await tell(port, [message], 0.05)


async def flood(port: int, held: int = 300, dripping: int = 100) -> None:
    messages = cycle([message for message, _ in MESSAGES.values()])
    await asyncio.gather(
        *(hold(port) for _ in range(held)), *(drip(port) for _ in range(dripping)), shout(port, messages)
    )


if __name__ == "__main__":
    asyncio.run(flood(int(sys.argv[1])))
