"""Writes docs/design/trial-states.md from the table in `holdfast._core.trial`, so that page and code cannot differ.

    python docs/generate_states.py

Knows Markdown and Mermaid. It refuses to know what any state means: that stands beside the table.
"""

from __future__ import annotations

from pathlib import Path

from holdfast._core.trial import FINAL, MEANING, SIGNALS, STATES, TABLE

PAGE = Path(__file__).parent / "design" / "trial-states.md"

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
    """An arrow per pair of different states, with the signals that lead from one to the other."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, signal), after in TABLE.items():
        if state != after:
            arrows.setdefault((state, after), []).append(signal)
    lines = [f"    {state} --> {after}: {', '.join(signals)}" for (state, after), signals in arrows.items()]
    return [
        "## Diagram",
        "",
        "Signals that leave a trial in its state are left out; the table below has them.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        f"    [*] --> {STATES[0]}: suggested",
        *lines,
        "```",
        "",
    ]


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
