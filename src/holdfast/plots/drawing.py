"""The choice of the library that draws."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from holdfast.errors import ConfigError
from holdfast.plots.charts import Chart

__all__ = ["BACKENDS", "draw"]

BACKENDS = ("plotly", "matplotlib")


def draw(chart: Chart, backend: str | None) -> Any:
    """The chart as the library's own figure.

    Args:
        chart: What is to be drawn.
        backend: "plotly" or "matplotlib"; None for the first of them that is installed.

    Raises:
        ConfigError: There is no such library here.
    """
    if backend is not None and backend not in BACKENDS:
        raise ConfigError(f"backend={backend!r}: 'plotly' or 'matplotlib'.")
    there = [name for name in (BACKENDS if backend is None else (backend,)) if find_spec(name) is not None]
    if not there:
        wanted = "plotly or matplotlib" if backend is None else backend
        raise ConfigError(f"Plots need {wanted}, which is not installed: pip install 'holdfast[plot]' (or matplotlib).")
    if there[0] == "plotly":
        from holdfast.plots import with_plotly

        return with_plotly.figure(chart)
    from holdfast.plots import with_matplotlib

    return with_matplotlib.figure(chart)
