from __future__ import annotations

import io
import math
import subprocess
import sys

from holdfast._core.experiment import ExperimentState
from holdfast.console import make_console
from stories import Story


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def told() -> Story:
    story = Story(max_failures=0)
    good, bad = story.suggest({"lr": 0.5}), story.suggest({"lr": 1})
    story.start(good)
    story.report(good, {"loss": 0.25, "x": 1})
    story.start(bad)
    story.report(bad, {"loss": math.nan})
    story.fail(bad, ValueError("no luck"))
    story.complete(good)
    story.finish()
    return story


def shown(verbose, out=None, **options) -> str:
    out = out or io.StringIO()
    console = make_console(verbose, out=out, metric="loss", mode="min", total=2, **options)
    state = ExperimentState()
    for at, record in enumerate(told().records):
        state.fold(record)
        console.hear(record, state)
        console.tick(float(at))
    console.close("restore with X")
    console.close()
    return out.getvalue()


def test_silence_keeps_only_the_closing_message():
    assert shown(0) == "restore with X\n"


def test_plain_lines_tell_more_with_each_level():
    one, two, three = (shown(verbose).splitlines() for verbose in (1, 2, 3))
    assert set(one) < set(two) < set(three)
    assert any("trial abcde_00001 attempt 1 failed for good (code): no luck" in line for line in one)
    assert any("trial abcde_00000 terminated after 1 rows loss=0.25" in line for line in one)
    assert any("trial abcde_00000 attempt 1 started: pid 1001 on host1" in line for line in two)
    assert any("trial abcde_00000 row 1: loss=0.25 x=1" in line for line in three)
    assert not any(" row 1:" in line for line in two)
    assert one[-1] == "restore with X"


def test_a_terminal_gets_a_table_with_counts_and_the_best():
    text = shown(1, Screen())
    assert "2 of 2 trials: 1 TERMINATED, 1 ERROR" in text
    assert "best: loss=0.25 by abcde_00000 (lr=0.5)" in text
    assert "failed: abcde_00001: no luck" in text
    assert text.endswith("restore with X\n")
    assert "row 1:" not in text
    assert "row 1: loss=0.25 x=1" in shown(3, Screen())


def test_the_table_is_drawn_at_most_four_times_a_second():
    out = Screen()
    console = make_console(1, out=out)
    state = ExperimentState()
    for record in told().records:
        state.fold(record)
        console.hear(record, state)
        console.tick(10.0)
    first = len(out.getvalue())
    console.tick(10.2)
    assert len(out.getvalue()) == first
    console.tick(10.3)
    assert len(out.getvalue()) > first
    console.close()


def test_a_closed_pipe_does_not_end_an_experiment():
    out = io.StringIO()
    console = make_console(1, out=out)
    out.close()
    state = ExperimentState()
    for record in told().records:
        state.fold(record)
        console.hear(record, state)
    console.close("still here")


def test_rich_is_loaded_only_for_a_terminal():
    code = "import sys, io, holdfast.console as c; c.make_console(3, out=io.StringIO()); print('rich' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_a_budget_that_is_exceeded_is_said_once():
    for verbose, out in ((1, io.StringIO()), (1, Screen())):
        story = Story(max_total_bytes=50, metric="loss", mode="min")
        name = story.suggest()
        story.start(name)
        for _ in range(3):
            story.report(name, save=True)
        console, state = make_console(verbose, out=out, metric="loss", mode="min", total=1), ExperimentState()
        for at, record in enumerate(story.records):
            state.fold(record)
            console.hear(record, state)
            console.tick(float(at))
        console.close()
        assert out.getvalue().count("max_total_bytes is 50") == 1


def test_a_lost_checkpoint_is_said():
    story, out = Story(), io.StringIO()
    name = story.suggest()
    story.start(name)
    story.row(name, pending=True)
    story.decide(name)
    story.lose_checkpoint(name)
    console, state = make_console(1, out=out), ExperimentState()
    for record in story.records:
        state.fold(record)
        console.hear(record, state)
    assert "lost checkpoint_000000, which was pending: its files are gone" in out.getvalue()
