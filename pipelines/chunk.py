"""A parsed text as passages: along its headings, in whole paragraphs, else sentences, else words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from services.common.errors import InvalidRequest
from services.common.sentences import sentences

CountTokens = Callable[[str], int]
"""The tokens of a text as the encoder sees it, special tokens included."""

Section = tuple[str, ...]
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*\r?\n?\Z")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_BLANK_LINES = re.compile(r"\n(?:[ \t\r]*\n)+")
_WORD = re.compile(r"\S+")
_SPACE = re.compile(r"\s*")
_HEADER_SHARE = 0.5
_LONGEST_HEADING = 1_000
_CHARACTERS_A_TOKEN = 32
"""More in a passage is no prose, and counting its tokens to find that out would take long."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One passage of a text. `text[start:end] == body`; `embedded` is title, section path and body, as encoded."""

    ordinal: int
    start: int
    end: int
    section: Section
    body: str
    embedded: str


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is never divided further, and about how many tokens it adds to a passage."""

    start: int
    end: int
    tokens: int


def chunk(text: str, title: str, count_tokens: CountTokens, max_tokens: int, overlap: int = 0) -> list[Chunk]:
    """The passages of a text, in order, each within `max_tokens` as embedded.

    They cover all of the text but headings and white space, and start anew at every Markdown heading. They do not
    overlap, unless `overlap` asks that a passage repeat up to so many tokens of whole sentences of the one before it
    in its section. Raises InvalidRequest where not even one character fits.
    """
    chunks: list[Chunk] = []
    for section, start, end in _sections(text):
        packer = _Packer(text, _header(title, section, count_tokens, max_tokens), count_tokens, max_tokens, overlap)
        for first, last in packer.passages(start, end):
            body = text[first:last]
            chunks.append(Chunk(len(chunks), first, last, section, body, packer.embedded(body)))
    return chunks


def _sections(text: str) -> Iterator[tuple[Section, int, int]]:
    """(section path, start, end) of what lies between headings; a `#` inside a code fence is none."""
    levels: list[tuple[int, str]] = []
    fence = ""
    start = position = 0
    for line in _LINE.findall(text):
        fence = _fenced(fence, line)
        heading = None if fence or len(line) > _LONGEST_HEADING else _HEADING.match(line)
        if heading:
            yield tuple(name for _, name in levels), start, position
            level = len(heading[1])
            levels = [*(above for above in levels if above[0] < level), (level, (heading[2] or "").strip())]
            start = position + len(line)
        position += len(line)
    yield tuple(name for _, name in levels), start, position


def _fenced(fence: str, line: str) -> str:
    """The fence that is open after this line, or nothing."""
    found = _FENCE.match(line)
    if not found:
        return fence
    if not fence:
        return found[1]
    return "" if found[1].startswith(fence) else fence


def _header(title: str, section: Section, count_tokens: CountTokens, max_tokens: int) -> str:
    """Title and section path, as far as they leave the body its share of the window."""
    path = [name for name in section if name]
    if path and path[0] == title:
        path = path[1:]
    lines = [line for line in (title.strip(), " > ".join(path)) if line]
    header = "\n".join(lines) + "\n" if lines else ""
    words = header.split()
    while words and count_tokens(header) > max_tokens * _HEADER_SHARE:
        words = words[: max(len(words) * 3 // 4, len(words) - 8)]
        header = " ".join(words) + "\n" if words else ""
    return header


class _Packer:
    """Packs one section into passages under one header."""

    def __init__(self, text: str, header: str, count_tokens: CountTokens, max_tokens: int, overlap: int) -> None:
        self._text = text
        self._header = header
        self._count = count_tokens
        self._max = max_tokens
        self._overlap = overlap
        self._empty = count_tokens(header)
        self._counted: dict[tuple[int, int], int] = {}

    def embedded(self, body: str) -> str:
        return self._header + body

    def passages(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The (start, end) of each passage."""
        pieces = [piece for first, last in _paragraphs(self._text, start, end) for piece in self._pieces(first, last)]
        begin = done = 0
        while done < len(pieces):
            done = self._close(pieces, begin, done)
            yield pieces[begin].start, pieces[done - 1].end
            begin = self._rewind(pieces, begin, done)

    def _close(self, pieces: list[_Piece], begin: int, done: int) -> int:
        """Where the passage that begins there ends, past all that is done already.

        Greedy, so that an edit leaves the passages before it as they were; only the last two share evenly.
        """
        room = self._max - self._empty
        rest = _tokens(pieces, begin, 2 * room)
        goal = rest / 2 if room < rest <= 2 * room else room
        last, used = begin, 0
        while last < len(pieces) and used + pieces[last].tokens <= room and used + pieces[last].tokens / 2 <= goal:
            used += pieces[last].tokens
            last += 1
        last = max(last, done + 1)
        while last > done + 1 and not self._fits(pieces[begin].start, pieces[last - 1].end):
            last -= 1
        return last

    def _rewind(self, pieces: list[_Piece], begin: int, done: int) -> int:
        """Where the next passage begins: at what is not done yet, less the overlap asked for."""
        first, used = done, 0
        while done < len(pieces) and first - 1 > begin and used + pieces[first - 1].tokens <= self._overlap:
            first -= 1
            used += pieces[first].tokens
        while first < done and not self._fits(pieces[first].start, pieces[done].end):
            first += 1
        return first

    def _pieces(self, start: int, end: int) -> Iterator[_Piece]:
        """A paragraph whole where it fits and none of it is to be repeated, else its sentences, else their words."""
        if not self._overlap and self._fits(start, end):
            yield self._piece(start, end)
            return
        for first, last in sentences(self._text[start:end]):
            if self._fits(start + first, start + last):
                yield self._piece(start + first, start + last)
            else:
                yield from self._words(start + first, start + last)

    def _words(self, start: int, end: int) -> Iterator[_Piece]:
        """Runs of as many words as fit; a word too long is cut."""
        ends = [match.end() for match in _WORD.finditer(self._text, start, end)]
        done = 0
        while start < end:
            words = self._furthest(start, ends, done)
            stop = (
                ends[words - 1] if words > done else start + self._furthest(start, range(start + 1, ends[done] + 1), 0)
            )
            if stop == start:
                raise InvalidRequest(f"a passage of {self._max} tokens has no room beside its title")
            yield self._piece(start, stop)
            done = max(words, done + (stop == ends[done]))
            start = self._after_space(stop, end)

    def _after_space(self, start: int, end: int) -> int:
        found = _SPACE.match(self._text, start, end)
        return found.end() if found else start

    def _furthest(self, start: int, ends: Sequence[int], done: int) -> int:
        """How many of these ends are passed by the text that fits, those done included. Longer steps, then shorter."""
        step, low = 16, done
        while low + step <= len(ends) and self._fits(start, ends[low + step - 1]):
            low, step = low + step, 2 * step
        high = min(len(ends), low + step - 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._fits(start, ends[middle - 1]) else (low, middle - 1)
        return low

    def _fits(self, start: int, end: int) -> bool:
        if end - start > self._max * _CHARACTERS_A_TOKEN:
            return False
        return self._tokens(start, end) <= self._max

    def _piece(self, start: int, end: int) -> _Piece:
        return _Piece(start, end, self._tokens(start, end) - self._empty)

    def _tokens(self, start: int, end: int) -> int:
        """The tokens of a span under the header; counting them is most of what chunking costs."""
        if (start, end) not in self._counted:
            self._counted[start, end] = self._count(self._header + self._text[start:end])
        return self._counted[start, end]


def _tokens(pieces: Sequence[_Piece], begin: int, most: int) -> int:
    """The tokens of the pieces from there on; more than `most` are not counted to their end."""
    total = 0
    for place in range(begin, len(pieces)):
        total += pieces[place].tokens
        if total > most:
            break
    return total


def _paragraphs(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """What blank lines separate, without the white space around."""
    breaks = [start, *(at for match in _BLANK_LINES.finditer(text, start, end) for at in match.span()), end]
    for first, last in zip(breaks[::2], breaks[1::2], strict=True):
        body = text[first:last]
        if stripped := body.strip():
            first += len(body) - len(body.lstrip())
            yield first, first + len(stripped)
