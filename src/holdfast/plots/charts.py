"""What is drawn, as plain values. Knows no experiment and no library."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["COLOURS", "FAILED", "Axis", "Bars", "Chart", "Curve", "Curves", "Parallel", "Span", "Spans"]

COLOURS = {"completed": "#2a9d8f", "stopped": "#8ab17d", "running": "#457b9d", "lost": "#bbbbbb"}  # of spans, by kind
FAILED = "#e63946"  # of those of any other kind


class Curve(NamedTuple):
    """Points of one name; `joined` by a line (in `steps`), or alone. `texts` says what each point is."""

    name: str
    xs: list[float]
    ys: list[float]
    joined: bool = True
    texts: list[str] | None = None
    steps: bool = False


class Curves(NamedTuple):
    """Curves in one frame; names are shown where `legend` says so."""

    title: str
    x: str
    y: str
    curves: list[Curve]
    legend: bool = True


class Axis(NamedTuple):
    """One axis of parallel coordinates: a position per line, and what stands at some of the positions."""

    name: str
    positions: list[float]
    ticks: list[tuple[float, str]]


class Parallel(NamedTuple):
    """One line per trial across all axes, coloured by its position on the last one."""

    title: str
    axes: list[Axis]


class Bars(NamedTuple):
    """Horizontal bars, the longest first."""

    title: str
    x: str
    bars: list[tuple[str, float]]


class Span(NamedTuple):
    """A stretch of time in the row of that name. `kind` gives its colour, `mark` says whether its end is marked."""

    row: str
    begin: float
    end: float
    kind: str
    text: str
    mark: bool = False


class Spans(NamedTuple):
    """Stretches of time, one row below the other."""

    title: str
    x: str
    spans: list[Span]


Chart = Curves | Parallel | Bars | Spans
