"""A figure: what was measured, what stands beside it, and what it should be."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Figure", "Target", "table"]


@dataclass(frozen=True)
class Target:
    """A bound on the figure itself (`of="value"`, in the figure's unit) or on its ratio to what stands beside it."""

    of: str
    bound: float
    most: bool = True  # at most, or at least

    def reached(self, value: float, ratio: float) -> bool:
        measured = value if self.of == "value" else ratio
        return measured <= self.bound if self.most else measured >= self.bound

    def text(self, unit: str) -> str:
        sign = "≤" if self.most else "≥"
        return f"{sign} {short(self.bound)} {unit}" if self.of == "value" else f"{sign} {self.bound:g} ×"


@dataclass(frozen=True)
class Figure:
    """Rounds of one measurement and of its limit or peer, all in the same unit.

    Where each round was measured right beside its limit, `paired` has the ratio be the median of the rounds' own: on a machine
    with other work, what slows both does not count. The lowest and the highest are shown with it.
    """

    name: str
    unit: str
    rounds: Sequence[float]
    beside: str
    limits: Sequence[float]
    target: Target
    paired: bool = False

    @property
    def value(self) -> float:
        return statistics.median(self.rounds)

    @property
    def limit(self) -> float:
        return statistics.median(self.limits)

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios) if self.paired else self.value / self.limit

    @property
    def ratios(self) -> list[float]:
        """Of each round, lowest first; empty where rounds and limits are no pairs."""
        return sorted(one / beside for one, beside in zip(self.rounds, self.limits, strict=True)) if self.paired else []

    @property
    def reached(self) -> bool:
        return self.target.reached(self.value, self.ratio)

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "unit": self.unit,
            "value": self.value,
            "rounds": list(self.rounds),
            "beside": self.beside,
            "limit": self.limit,
            "limit_rounds": list(self.limits),
            "ratio": self.ratio,
            "ratios": self.ratios,
            "target": self.target.text(self.unit),
            "reached": self.reached,
        }


def short(number: float) -> str:
    """Three figures that matter, without exponents."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def table(figures: Sequence[Figure]) -> str:
    """One line per figure."""
    head = ["figure", "measured", "beside", "that", "ratio", "target", ""]
    rows = [
        [
            figure.name,
            f"{short(figure.value)} {figure.unit}",
            figure.beside,
            f"{short(figure.limit)} {figure.unit}",
            f"{figure.ratio:.2f} ×" + (f" ({figure.ratios[0]:.2f} to {figure.ratios[-1]:.2f})" if figure.paired else ""),
            figure.target.text(figure.unit),
            "reached" if figure.reached else "MISSED",
        ]
        for figure in figures
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    left = (0, 2)
    lines = [
        "  ".join(
            cell.ljust(w) if column in left else cell.rjust(w) for column, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *rows]
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)
