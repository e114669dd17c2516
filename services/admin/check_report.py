"""What `features check` found, for people: a line, or a page with plots, as HTML or Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import typer

from services.admin.failures import Failed
from services.admin.render import clean, day

Json = dict[str, Any]

_ROW, _LABEL, _PLOT = 26, 150, 360
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; }
.wrong { color: #a3131a; font-weight: 600; } figure { margin: 1.5rem 0; } figcaption { font-weight: 600; }
svg text { font: 12px system-ui, sans-serif; }
"""
_COLOURS = {"reference": "#8a93a6", "current": "#1f5fbf"}


def require_known(path: Path) -> None:
    """Wrong use, for a report of another kind than is known."""
    if path.suffix not in (".html", ".md"):
        raise typer.BadParameter(f"{path}: a report is a .html or a .md file")


def summary(found: Json) -> str:
    """One line."""
    stale = sum(not view["fresh"] for view in found["freshness"])
    fields = [field for field in found["fields"] if field["rows"]]
    compared = [measure for measure in found["drift"]["measures"] if measure["psi"] is not None]
    psi = ", ".join(f"{measure['name']} {measure['psi']:.2f}" for measure in compared) or "nothing to compare yet"
    return (
        f"{len(found['freshness']) - stale} of {len(found['freshness'])} views fresh; {len(fields)} fields looked at; "
        f"drift (PSI): {psi}"
    )


def write(path: Path, found: Json) -> None:
    """Raises Failed where the file cannot be written."""
    text = html(found) if path.suffix == ".html" else markdown(found)
    try:
        path.write_text(clean(text), encoding="utf-8")
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error


def markdown(found: Json) -> str:
    return "\n".join(_markdown(found)) + "\n"


def _markdown(found: Json) -> Iterator[str]:
    yield f"# Features of {found['collection']}, {day(found['at'])}\n"
    yield "\n".join(f"- **{fault}**" for fault in found["faults"]) or "All is well."
    for title, head, rows in _tables(found):
        yield f"\n## {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}"
        yield from (f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    yield f"\n## Drift\n\n{_windows(found)}"
    for measure in found["drift"]["measures"]:
        yield f"\n### {measure['title']}\n\n{_verdict(measure)}\n\n```"
        width = max(map(len, measure["bins"]))
        for name, before, after in _shares(measure):
            yield f"{name:>{width}}  {_bar(before, '░')} {before:6.1%}\n{'':>{width}}  {_bar(after, '█')} {after:6.1%}"
        yield "```"


def html(found: Json) -> str:
    return "".join(_html(found))


def _html(found: Json) -> Iterator[str]:
    title = escape(f"Features of {found['collection']}, {day(found['at'])}")
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    yield f"<h1>{title}</h1>"
    faults = "".join(f'<li class="wrong">{escape(fault)}</li>' for fault in found["faults"])
    yield f"<ul>{faults}</ul>" if faults else "<p>All is well.</p>"
    for name, head, rows in _tables(found):
        yield f"<h2>{escape(name)}</h2><table><tr>{_cells('th', head)}</tr>"
        yield from (f"<tr>{_cells('td', row)}</tr>" for row in rows)
        yield "</table>"
    yield f"<h2>Drift</h2><p>{escape(_windows(found))} Grey: the reference. Blue: the window.</p>"
    for measure in found["drift"]["measures"]:
        yield f"<figure><figcaption>{escape(measure['title'])}</figcaption>"
        yield f"<p>{escape(_verdict(measure))}</p>{_plot(measure)}</figure>"
    yield "</html>\n"


def _cells(tag: str, row: Sequence[object]) -> str:
    return "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in row)


def _tables(found: Json) -> Iterator[tuple[str, tuple[str, ...], list[tuple[object, ...]]]]:
    behind: list[tuple[object, ...]] = [
        (view["view"], view["collection"], "fresh" if view["fresh"] else f"behind by {view['behind_seconds']:.0f} s")
        for view in found["freshness"]
    ]
    yield "Freshness", ("view", "collection", ""), behind
    values: list[tuple[object, ...]] = [
        (
            *(f"{field['view']}.{field['name']}", field["rows"], field["nulls"], field["empty"]),
            *(f"{field['least']:g}", f"{field['most']:g}", "; ".join(field["faults"]) or "sound"),
        )
        for field in found["fields"]
        if field["rows"]
    ]
    yield "Values", ("field", "rows", "nulls", "empty", "least", "most", ""), values


def _windows(found: Json) -> str:
    drift = found["drift"]
    spans = (f"{day(drift[name]['since'])} to {day(drift[name]['until'])}" for name in ("window", "reference"))
    return f"{', against '.join(spans)}."


def _verdict(measure: Json) -> str:
    if measure["psi"] is None:
        return "One of the windows has no answers."
    counts = f"{sum(measure['reference'])} and {sum(measure['current'])} answers"
    found = f"PSI {measure['psi']:.3f}, a shift from {measure['threshold']:.3f} on; {counts}"
    return f"Shifted: {found}." if measure["shifted"] else f"{found}."


def _shares(measure: Json) -> list[tuple[str, float, float]]:
    n, m = sum(measure["reference"]) or 1, sum(measure["current"]) or 1
    bins = zip(measure["bins"], measure["reference"], measure["current"], strict=True)
    return [(name, before / n, after / m) for name, before, after in bins]


def _bar(share: float, mark: str) -> str:
    return f"{mark * round(share * 40):<40}"


def _plot(measure: Json) -> str:
    """Two bars a bin, as SVG."""
    shares = _shares(measure)
    parts = []
    for at, (name, before, after) in enumerate(shares):
        top = at * _ROW
        parts.append(f'<text x="{_LABEL - 8}" y="{top + 16}" text-anchor="end">{escape(name)}</text>')
        for colour, share, y in ((_COLOURS["reference"], before, top + 3), (_COLOURS["current"], after, top + 12)):
            parts.append(f'<rect x="{_LABEL}" y="{y}" width="{share * _PLOT:.1f}" height="8" fill="{colour}"/>')
        label = f"{before:.1%} → {after:.1%}"
        parts.append(f'<text x="{_LABEL + max(before, after) * _PLOT + 6:.1f}" y="{top + 16}">{label}</text>')
    width, height = _LABEL + _PLOT + 120, len(shares) * _ROW
    label = escape(f"{measure['title']}: shares in reference and window")
    return f'<svg role="img" aria-label="{label}" viewBox="0 0 {width} {height}" width="{width}">{"".join(parts)}</svg>'
