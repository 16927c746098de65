"""Writes docs/design/trial-states.md and its drawing from the table in `holdfast._core.trial`: page and code cannot differ.

    python docs/generate_states.py

Knows Markdown, and where each state stands in the drawing. It refuses to know what any state means: that stands beside the table.
"""

from __future__ import annotations

from math import hypot
from pathlib import Path

from holdfast._core.trial import (
    ERROR,
    FINAL,
    MEANING,
    PAUSED,
    PAUSING,
    PENDING,
    RUNNING,
    SIGNALS,
    STATES,
    STOPPING,
    TABLE,
    TERMINATED,
)

PAGE = Path(__file__).parent / "design" / "trial-states.md"
DRAWING = Path(__file__).parent / "images" / "trial-states.svg"

# What a person asks of a finished or killed experiment; it leads from nearly everywhere, so the drawing leaves it out.
_ASKED = frozenset({"extended", "resumed", "restarted", "skipped"})

# Where a worker that was told to go leads to one state whatever its end, one word stands for these.
_ENDS = ["completed", "stopped", "failed", "failed_for_good", "lost"]

_TIP = (
    '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0 10 5 0 10z" fill="#455a64"/></marker></defs>'
)
_WIDTH, _HEIGHT = 960, 540
_WIDE, _HIGH = 116, 36  # a state's box
_PLACES = {
    PENDING: (90, 240),
    RUNNING: (410, 240),
    STOPPING: (650, 120),
    PAUSING: (650, 430),
    PAUSED: (410, 430),
    TERMINATED: (870, 240),
    ERROR: (90, 430),
}
# How far the middle of an arrow lies to the left of the straight way, in its direction.
_BENDS = {
    (PENDING, RUNNING): 26,
    (RUNNING, PENDING): 26,
    (RUNNING, ERROR): 45,
    (PENDING, STOPPING): 100,
    (STOPPING, PENDING): -150,
    (PENDING, TERMINATED): 215,
    (PAUSED, TERMINATED): -175,
}

_HEAD = """# The states of a trial

Written by `docs/generate_states.py` from `src/holdfast/_core/trial.py`; change it there. A pair of state and signal that is
not listed is illegal: it raises `IllegalTransition` and changes nothing.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *_states(), *_signals(), *_diagram(), *_transitions()])


def _states() -> list[str]:
    """One line per state."""
    rows = [f"| `{state}` | {MEANING[state]} | {'yes' if state in FINAL else ''} |" for state in STATES]
    return ["## States", "", "| state | a trial in it | final |", "|---|---|---|", *rows, ""]


def _signals() -> list[str]:
    """One line per signal."""
    rows = [f"| `{signal}` | {meaning} |" for signal, meaning in SIGNALS.items()]
    return ["## Signals", "", "| signal | the record that says so |", "|---|---|", *rows, ""]


def _diagram() -> list[str]:
    """The drawing, and all its arrows as a table, those that it leaves out too."""
    rows = [f"| `{state}` | `{after}` | {', '.join(signals)} |" for (state, after), signals in _arrows().items()]
    return [
        "## Drawing",
        "",
        f"![Boxes for the states, arrows for the signals](../images/{DRAWING.name})",
        "",
        "Left out are signals that leave a trial in its state, and what a person asks of a restore or an extension",
        f'({", ".join(f"`{signal}`" for signal in SIGNALS if signal in _ASKED)}). "Any end" is one of',
        f"{', '.join(f'`{signal}`' for signal in _ENDS)}. Every way from one state to another:",
        "",
        "| from | to | by |",
        "|---|---|---|",
        *rows,
        "",
    ]


def _arrows() -> dict[tuple[str, str], list[str]]:
    """Each pair of different states, with the signals that lead from one to the other."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, signal), after in TABLE.items():
        if state != after:
            arrows.setdefault((state, after), []).append(signal)
    return arrows


def drawing() -> str:
    """The drawing, as SVG that needs nothing else: no font, no script."""
    shown = {pair: [signal for signal in signals if signal not in _ASKED] for pair, signals in _arrows().items()}
    parts = [_arrow(*pair, "any end" if signals == _ENDS else ", ".join(signals)) for pair, signals in shown.items() if signals]
    parts += [_box(state, *_PLACES[state]) for state in STATES]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="13">',
            "<title>The states of a trial</title>",
            _TIP,
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="#fff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _box(state: str, x: int, y: int) -> str:
    fill = "#cfd8dc" if state in FINAL else "#b2dfdb"
    corner = f'x="{x - _WIDE // 2}" y="{y - _HIGH // 2}" width="{_WIDE}" height="{_HIGH}" rx="8"'
    return (
        f'<rect {corner} fill="{fill}" stroke="#00796b"/>'
        f'<text x="{x}" y="{y + 5}" text-anchor="middle" font-weight="bold" fill="#102027">{state}</text>'
    )


def _arrow(state: str, after: str, label: str) -> str:
    """A curve from the edge of one box to that of another, with its label beside its middle."""
    (x, y), (to_x, to_y) = _PLACES[state], _PLACES[after]
    length = hypot(to_x - x, to_y - y)
    bend = _BENDS.get((state, after), 0)
    left_x, left_y = (to_y - y) / length * bend, -(to_x - x) / length * bend
    middle_x, middle_y = (x + to_x) / 2 + left_x, (y + to_y) / 2 + left_y
    bent_x, bent_y = (x + to_x) / 2 + 2 * left_x, (y + to_y) / 2 + 2 * left_y  # what a curve with that middle bends towards
    (x, y), (to_x, to_y) = _edge(x, y, bent_x, bent_y), _edge(to_x, to_y, bent_x, bent_y)
    return (
        f'<path d="M{x:.0f} {y:.0f}Q{bent_x:.0f} {bent_y:.0f} {to_x:.0f} {to_y:.0f}" fill="none" stroke="#455a64" '
        f'marker-end="url(#tip)"/>'
        f'<text x="{middle_x:.0f}" y="{middle_y - 4:.0f}" text-anchor="middle" fill="#102027" stroke="#fff" stroke-width="4" '
        f'paint-order="stroke">{label}</text>'
    )


def _edge(x: float, y: float, to_x: float, to_y: float) -> tuple[float, float]:
    """Where the way from the middle of a box to a point leaves the box."""
    steps = [side / abs(way) for side, way in ((_WIDE / 2, to_x - x), (_HIGH / 2, to_y - y)) if way]
    return x + (to_x - x) * min(steps), y + (to_y - y) * min(steps)


def _transitions() -> list[str]:
    """One line per signal, one column per state it comes in."""
    head = ["signal", *STATES]
    rows = [[f"`{signal}`", *(TABLE.get((state, signal), "") for state in STATES)] for signal in SIGNALS]
    table = [head, ["---"] * len(head), *rows]
    return [
        "## Transitions",
        "",
        "Each cell names the state that the signal leads to from the state above; an empty one is illegal.",
        "",
        *(f"| {' | '.join(row)} |" for row in table),
        "",
    ]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    DRAWING.write_text(drawing(), encoding="utf-8")
