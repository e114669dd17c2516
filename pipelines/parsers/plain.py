"""Running text that is no Markdown, written so that it is not read as any."""

from __future__ import annotations

import re

_READ_AS_MARKDOWN = re.compile(r"^( {0,3})(?=#{1,6}(?:[ \t]|$)|```|~~~)", re.MULTILINE)


def escaped(text: str) -> str:
    """The text with a backslash before what would be read as a heading or a code fence."""
    return _READ_AS_MARKDOWN.sub(r"\1\\", text)
