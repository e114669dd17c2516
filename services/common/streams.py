"""What streams of any transport share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

Item = TypeVar("Item")


async def made_twice(
    make: Callable[[], AsyncGenerator[Item, None]], worth: Callable[[Exception], bool]
) -> AsyncGenerator[Item, None]:
    """What `make` gives; made once more where it broke before its first item, by an error that makes it worth it."""
    begun = False
    try:
        async with aclosing(make()) as items:
            async for item in items:
                begun = True
                yield item
        return
    except Exception as error:
        if begun or not worth(error):
            raise
    async with aclosing(make()) as items:
        async for item in items:
            yield item
