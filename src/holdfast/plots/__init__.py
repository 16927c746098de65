"""Plots of an experiment: what is drawn (`charts`), and by which library (plotly, else matplotlib), which is loaded only then."""

from __future__ import annotations

from holdfast.plots.methods import Plotted, PlottedAttempt, PlottedTrial

__all__ = ["Plotted", "PlottedAttempt", "PlottedTrial"]
