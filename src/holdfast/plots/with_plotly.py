"""Charts drawn by plotly. Knows the library; refuses to know what the charts are about."""

from __future__ import annotations

from typing import Any

from holdfast.plots.charts import COLOURS, FAILED, Bars, Chart, Curves, Parallel, Spans

__all__ = ["figure"]


def figure(chart: Chart) -> Any:
    """A `plotly.graph_objects.Figure`."""
    import plotly.graph_objects as go

    if isinstance(chart, Curves):
        traces = [
            go.Scatter(
                x=it.xs, y=it.ys, name=it.name, mode="lines+markers" if it.joined else "markers", text=it.texts,
                marker={"size": 4 if it.joined else 8}, line={"shape": "hv" if it.steps else "linear"},
            )
            for it in chart.curves
        ]  # fmt: skip
        made = go.Figure(traces)
        made.update_layout(xaxis_title=chart.x, yaxis_title=chart.y, showlegend=chart.legend)
    elif isinstance(chart, Parallel):
        dimensions = [
            {
                "label": axis.name,
                "values": axis.positions,
                "tickvals": [at for at, _ in axis.ticks],
                "ticktext": [it for _, it in axis.ticks],
            }
            for axis in chart.axes
        ]
        line = {"color": chart.axes[-1].positions, "colorscale": "Viridis", "showscale": False}
        made = go.Figure(go.Parcoords(dimensions=dimensions, line=line))
    elif isinstance(chart, Bars):
        ordered = sorted(chart.bars, key=lambda bar: bar[1])
        made = go.Figure(go.Bar(x=[value for _, value in ordered], y=[name for name, _ in ordered], orientation="h"))
        made.update_layout(xaxis_title=chart.x)
    else:
        made = _spans(go, chart)
    made.update_layout(title=chart.title)
    return made


def _spans(go: Any, chart: Spans) -> Any:
    made = go.Figure()
    for kind in dict.fromkeys(span.kind for span in chart.spans):
        these = [span for span in chart.spans if span.kind == kind]
        made.add_trace(
            go.Bar(
                name=kind,
                orientation="h",
                y=[span.row for span in these],
                x=[span.end - span.begin for span in these],
                base=[span.begin for span in these],
                text=[span.text for span in these],
                textposition="none",
                marker={"color": COLOURS.get(kind, FAILED)},
            )
        )
    marked = [span for span in chart.spans if span.mark]
    if marked:
        cross = {"symbol": "x", "size": 9, "color": FAILED}
        ends, rows, texts = [it.end for it in marked], [it.row for it in marked], [it.text for it in marked]
        made.add_trace(go.Scatter(name="failure", x=ends, y=rows, mode="markers", marker=cross, text=texts))
    made.update_layout(barmode="overlay", xaxis_title=chart.x, yaxis={"autorange": "reversed"})
    return made
