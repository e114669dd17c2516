"""How long a client may take over a request's body."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.errors import TooSlow


class Patience:
    """ASGI middleware: waits for a body `seconds`, and longer the more of it has come, a second for each `rate` bytes,
    as Apache's mod_reqtimeout does. Whoever reads the body after that gets TooSlow."""

    def __init__(self, app: ASGIApp, seconds: float, rate: int) -> None:
        self._app, self._seconds, self._rate = app, seconds, rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        left, whole, begun = self._seconds, False, False

        async def waiting() -> Message:
            nonlocal left, whole
            if whole:
                return await receive()
            since = time.monotonic()
            try:
                async with asyncio.timeout(left):
                    message = await receive()
            except TimeoutError:
                if begun:
                    return {"type": "http.disconnect"}
                raise TooSlow("the body came too slowly; send it again, faster", {"Connection": "close"}) from None
            left += len(message.get("body", b"")) / self._rate - (time.monotonic() - since)
            whole = not message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        await self._app(scope, waiting, sending)
