from __future__ import annotations

import io
import math
import os
import re
import subprocess
import sys

import pytest
from rich.console import Console

from holdfast._core.events import EpochStarted, Record
from holdfast._core.experiment import ExperimentState
from holdfast._core.policy import Resume
from holdfast.console import make_console
from holdfast.console.lines import line_for
from holdfast.console.picture import Picture, Subject
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


def test_a_drivers_resources_are_told_as_people_read_them():
    amounts = {"cpu": 2.0, "memory": 25276542976.0, "licence": 0.5}
    began = EpochStarted(1, amounts, Resume(), "local", "host", 11, "boot", 5, {}, {})
    line = line_for(Record(0, 1, 0.0, 0.0, began), ExperimentState(), 1, "")
    assert line.endswith("engine local, cpu=2 memory=23.5GiB licence=0.5")


def test_what_a_trial_says_stays_on_one_line_and_moves_no_cursor():
    story = Story(max_failures=0)
    name = story.suggest({"kind": "two\nlines"})
    story.start(name)
    story.fail(name, ValueError("first\n\tsecond \x1b[2Jthird"))
    for out in (io.StringIO(), Screen()):
        console, state = make_console(2, out=out), ExperimentState()
        for record in story.records:
            state.fold(record)
            console.hear(record, state)
        console.tick(1.0)
        console.close()
        assert "first second \\x1b[2Jthird" in plain(out.getvalue())
        assert "\x1b[2J" not in out.getvalue()
    lines = [line for line in drawn(story) if "code:" in line]
    assert len(lines) == 1


def test_a_terminal_gets_a_table_with_counts_and_the_best():
    text = plain(shown(1, Screen()))
    assert "2 of 2 trials done" in text
    assert "trials: 1 TERMINATED, 1 ERROR" in text
    assert "best: loss=0.25 (min) by abcde_00000  lr=0.5" in text
    assert "failed   abcde_00001  1        code: no luck" in text
    assert text.endswith("restore with X\n")
    assert "row 1:" not in text
    assert "row 1: loss=0.25 x=1" in shown(3, Screen())


def plain(text: str) -> str:
    """Without what moves cursors and colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def drawn(story: Story, width: int = 80, height: int = 30, idle_s: float | None = 0.0) -> list[str]:
    """The picture of a story, line by line."""
    picture = Picture(Subject("loss", "min", 4))
    picture.look_at(story.state.trials.values())
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(picture.drawn(story.state, idle_s, width, height))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def busy() -> Story:
    """One trial done, one running after a failure, one that waits to be retried, one failed for good."""
    story = Story(max_failures=1, num_samples=4)
    done, again, waits, failed = (
        story.suggest({"lr": 0.1 * n, "optimizer": "a long name of an optimizer" * 3}) for n in range(4)
    )
    story.start(done)
    story.report(done, {"loss": 0.5})
    story.complete(done)
    for name in (again, waits, failed, failed):
        story.start(name)
        story.fail(name, ValueError("a message\nof two lines, and a long one: " + "x" * 100), kind="oom")
    story.start(again)
    story.report(again, {"loss": 0.75})
    return story


@pytest.mark.parametrize("width", [80, 160])
def test_the_picture_fits_and_tells_who_runs_who_failed_and_why(width):
    lines = drawn(busy(), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "exp  running  0:10 used, about 0:10 left" in text
    assert "2 of 4 trials done" in text
    assert "trials: 1 PENDING, 1 RUNNING, 1 TERMINATED, 1 ERROR; 2 retried" in text
    assert [line.split("  ")[0] for line in lines if "oom" in line] == ["failed", "to be retried", "retried"]
    [running] = [line for line in lines if line.startswith("abcde_00001")]
    assert running.split()[:2] == ["abcde_00001", "1"]
    assert ("attempt" in lines[5]) == (width == 160)


def test_a_low_screen_shows_fewer_trials():
    story = Story(num_samples=40)
    for _ in range(30):
        story.start(story.suggest())
    assert sum(line.startswith("abcde_") for line in drawn(story, height=20)) == 9
    assert "... and 21 more running" in drawn(story, height=20)


def test_a_killed_driver_is_told_from_one_at_work():
    assert drawn(busy(), idle_s=None)[0] == "exp  no driver is at work  0:10 used, about 0:10 left"
    assert drawn(told(), idle_s=None)[0].startswith("exp  finished  ")


def test_time_left_is_bounded_by_the_time_that_the_job_was_given():
    story = Story(num_samples=4, time_budget_s=20.0)
    assert drawn(story, idle_s=5.0)[0] == "exp  running  0:05 used, about 0:14 left"
    finished = told()
    assert "left" not in drawn(finished)[0]
    assert "finished" in drawn(finished)[0]


def test_best_is_the_best_newest_value_as_everywhere():
    """What a trial once had and has no more does not count, whenever it was drawn."""
    story, picture = Story(metric="loss", mode="min"), Picture(Subject("loss", "min", -1))
    first, second = story.suggest({"lr": 1}), story.suggest({"lr": 2})
    for name in (first, second):
        story.start(name)
    for name, loss, best in (
        (first, 0.1, first),
        (second, 0.5, first),
        (first, 0.9, second),
        (second, math.inf, first),
        (first, 0.2, first),
    ):
        story.report(name, {"loss": loss})
        picture.look_at([story.state.trial(name)])
        console = Console(file=io.StringIO(), width=80, color_system=None)
        console.print(picture.drawn(story.state, 0.0, 80, 30))
        assert f"by {best}" in console.file.getvalue(), (name, loss)


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


def test_a_pipe_whose_reader_has_gone_is_written_to_no_more_and_raises_nothing():
    read, write = os.pipe()
    out = open(write, "w", buffering=1, encoding="utf-8")  # noqa: SIM115 - closing it raises what it could not write
    with open(read, encoding="utf-8") as reader:
        console, state = make_console(1, out=out), ExperimentState()
        console.say("somebody reads")
        assert (reader.readline(), console.unheard) == ("somebody reads\n", False)
    for record in told().records:
        state.fold(record)
        console.hear(record, state)
    console.close("nobody does")
    assert console.unheard
    with pytest.raises(BrokenPipeError):
        out.close()


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


@pytest.mark.parametrize("screen", [io.StringIO, Screen])
@pytest.mark.parametrize("value", ["0", "1"])
def test_errors_are_printed_whole_or_not_at_all_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, screen: type[io.StringIO], value: str
) -> None:
    monkeypatch.setenv("TUNE_PRINT_ALL_TRIAL_ERRORS", value)
    lines = plain(shown(1, screen())).splitlines()
    at = [number for number, line in enumerate(lines) if "attempt 1 failed for good (code)" in line]
    whole = [line for line in lines if line.startswith("Traceback: ValueError")]
    assert (len(at), len(whole)) == ((1, 1) if value == "1" else (0, 0))
    assert not whole or at[0] < lines.index(whole[0])


def test_silence_prints_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_PRINT_ALL_TRIAL_ERRORS", "1")
    assert shown(0) == "restore with X\n"
