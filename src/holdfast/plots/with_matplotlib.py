"""Charts drawn by matplotlib, without pyplot: no window is opened and no global state is touched.

Knows the library; refuses to know what the charts are about.
"""

from __future__ import annotations

from typing import Any

from holdfast.plots.charts import COLOURS, FAILED, Bars, Chart, Curves, Parallel, Spans

__all__ = ["figure"]

_MOST_NAMES = 12


def figure(chart: Chart) -> Any:
    """A `matplotlib.figure.Figure`; `savefig` writes it."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(9, 5.5), layout="constrained")
    axes = made.add_subplot()
    axes.set_title(chart.title)
    if isinstance(chart, Curves):
        _curves(axes, chart)
    elif isinstance(chart, Parallel):
        _parallel(axes, chart)
    elif isinstance(chart, Bars):
        ordered = sorted(chart.bars, key=lambda bar: bar[1])
        axes.barh([name for name, _ in ordered], [value for _, value in ordered])
        axes.set_xlabel(chart.x)
    else:
        _spans(axes, chart)
    return made


def _curves(axes: Any, chart: Curves) -> None:
    for curve in chart.curves:
        style = {"marker": "o", "linestyle": ""}
        if curve.joined:
            style = {"marker": ".", "drawstyle": "steps-post" if curve.steps else "default"}
        axes.plot(curve.xs, curve.ys, label=curve.name, **style)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    if chart.legend and len(chart.curves) <= _MOST_NAMES:
        axes.legend(fontsize="small")


def _parallel(axes: Any, chart: Parallel) -> None:
    """Each axis is scaled to 0..1; its ticks are written beside it."""
    from matplotlib import colormaps

    scaled = [_scaled(axis.positions, axis.ticks) for axis in chart.axes]
    colours = colormaps["viridis"]
    for line, colour in zip(zip(*(values for values, _ in scaled), strict=True), scaled[-1][0], strict=True):
        axes.plot(range(len(scaled)), line, color=colours(colour), alpha=0.8)
    for at, (_, ticks) in enumerate(scaled):
        axes.axvline(at, color="black", linewidth=0.8)
        for height, text in ticks:
            axes.annotate(text, (at, height), xytext=(4, 0), textcoords="offset points", fontsize="small", va="center")
    axes.set_xticks(range(len(scaled)), [axis.name for axis in chart.axes])
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(scaled) - 0.6)


def _scaled(positions: list[float], ticks: list[tuple[float, str]]) -> tuple[list[float], list[tuple[float, str]]]:
    low, high = min(positions), max(positions)
    width = (high - low) or 1.0
    return [(at - low) / width for at in positions], [((at - low) / width, text) for at, text in ticks]


def _spans(axes: Any, chart: Spans) -> None:
    rows = list(dict.fromkeys(span.row for span in chart.spans))
    seen: set[str] = set()
    for span in chart.spans:
        label = None if span.kind in seen else span.kind
        seen.add(span.kind)
        colour = COLOURS.get(span.kind, FAILED)
        axes.barh(rows.index(span.row), span.end - span.begin, left=span.begin, color=colour, edgecolor="white", label=label)
    marked = [span for span in chart.spans if span.mark]
    if marked:
        axes.plot([it.end for it in marked], [rows.index(it.row) for it in marked], "x", color=FAILED, label="failure")
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.set_xlabel(chart.x)
    axes.legend(fontsize="small")
