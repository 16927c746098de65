from __future__ import annotations

import copy
import datetime
import pickle
import sys
import time

import pytest

from holdfast import CLIReporter, JupyterNotebookReporter, ProgressReporter
from holdfast._runtime.roll import Roll
from holdfast.errors import ConfigError
from stories import Story


def trials(**policy) -> Roll:
    """One trial done, one running, one that failed for good, one that waits."""
    story = Story(**{"max_failures": 0, **policy})
    done, running, failed, _ = (story.suggest({"net": {"lr": 0.1 * n}, "kind": "a rather long word for it"}) for n in range(4))
    for name, loss in ((done, 0.5), (running, 0.25), (failed, 0.75)):
        story.start(name)
        story.report(name, {"loss": loss, "other": 7, "deep": {"x": 1}, "text": "no number", "more": 1, "last": 2})
    story.complete(done)
    story.fail(failed)
    return Roll(story.records[0].event, story.state, "/results/exp", story.load)


def text(reporter: CLIReporter, of=None, *, done=True, info=()) -> str:
    reporter.setup(start_time=time.time() - 61, total_samples=9, metric="loss", mode="min")
    return reporter._progress_str(of or trials(), done, *info)


def heads(table: str) -> list[str]:
    [line] = [line for line in table.splitlines() if line.startswith("| trial") and "status" in line]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_report_tells_counts_best_trials_and_failures():
    told = text(CLIReporter(), info=("Using FIFO", "", "resources in use: 1/2 cpu"))
    lines = told.splitlines()
    assert "after 00:01:01: 4/9 trials (1 RUNNING, 1 PENDING, 1 ERROR, 1 TERMINATED) ==" in lines[0]
    assert lines[1:3] == ["Using FIFO", "resources in use: 1/2 cpu"]
    assert lines[3].startswith("best: abcde_00001 with loss=0.25 and {")
    assert lines[4] == "results in /results/exp"
    assert "/results/exp/train_abcde_00002_2_lr=2/error.txt" in told


def test_columns_are_inferred_or_as_given():
    common = ["trial", "status"]
    inferred = heads(text(CLIReporter()))
    assert inferred == [*common, "net/lr", "kind", "iter", "total time (s)", "loss", "other", "deep/x", "more"]
    assert heads(text(CLIReporter(infer_limit=1)))[-2:] == ["loss", "other"]
    assert heads(text(CLIReporter(["loss", "deep/x"], {"net/lr": "rate"}))) == [*common, "rate", "loss", "deep/x"]
    assert heads(text(CLIReporter({"loss": "the loss"}, ["kind"]))) == [*common, "kind", "the loss"]


def test_columns_can_be_added():
    reporter = CLIReporter(parameter_columns={"kind": "k"})
    reporter.add_metric_column("deep/x", "x")
    reporter.add_parameter_column("net/lr")
    assert heads(text(reporter)) == ["trial", "status", "k", "net/lr", "iter", "total time (s)", "x"]
    with pytest.raises(ValueError, match="There is a column 'deep/x' already"):
        reporter.add_metric_column("deep/x")
    listed = CLIReporter(metric_columns=["loss"])
    with pytest.raises(ValueError, match="cannot be called 'l'"):
        listed.add_metric_column("other", "l")
    listed.add_metric_column("other")
    assert heads(text(listed))[-2:] == ["loss", "other"]
    assert CLIReporter.DEFAULT_COLUMNS == {"training_iteration": "iter", "time_total_s": "total time (s)"}


def test_rows_and_cells_are_bounded():
    told = text(CLIReporter(max_progress_rows=2, max_error_rows=0, max_column_length=8))
    assert "... 2 more trials" in told
    assert "| ...or it |" in told
    assert "error.txt" not in told


def test_trials_of_a_status_can_be_sorted_by_the_metric():
    story = Story(max_failures=0)
    for loss in (0.5, 0.1, float("nan"), 0.3):
        name = story.suggest({"lr": loss})
        story.start(name)
        story.report(name, {"loss": loss})
    roll = Roll(story.records[0].event, story.state, "/results/exp", story.load)

    def order(**options) -> list[str]:
        lines = CLIReporter(metric_columns=["loss"], metric="loss", **options)._progress_str(roll, True).splitlines()
        return [line.split("|")[-2].strip() for line in lines if "RUNNING |" in line]

    assert order(mode="min", sort_by_metric=True) == ["0.1", "0.3", "0.5", "nan"]
    assert order(mode="max", sort_by_metric=True) == ["0.5", "0.3", "0.1", "nan"]
    assert order(mode="min") == ["0.5", "0.1", "nan", "0.3"]


def test_the_tables_before_the_last_can_be_left_out():
    reporter = CLIReporter(print_intermediate_tables=False)
    assert "| trial" not in text(reporter, done=False)
    assert "| trial" in text(reporter, done=True)


def test_it_reports_now_and_then_and_at_the_end(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    reporter = CLIReporter(max_report_frequency=5)
    asked = []
    for seconds in (0, 4, 2, 0):
        now[0] += seconds
        asked.append(reporter.should_report([]))
    assert asked == [True, False, True, False]
    assert reporter.should_report([], done=True)


def test_its_own_metric_and_number_win():
    reporter = CLIReporter(metric="other", mode="max", total_samples=50)
    assert "best: abcde_00000 with other=7" in text(reporter)
    assert "4/50 trials" in text(reporter)
    assert not reporter.set_search_properties("loss", None)
    assert CLIReporter().set_search_properties("loss", "min")
    with pytest.raises(ValueError, match="'largest'"):
        CLIReporter(mode="largest")
    with pytest.raises(ValueError, match="give a list"):
        CLIReporter(metric_columns="loss")


def test_a_start_time_may_be_a_datetime():
    reporter = CLIReporter()
    reporter.set_start_time(datetime.datetime.now(tz=datetime.timezone.utc) - datetime.timedelta(hours=2))
    assert "after 02:00:0" in reporter._progress_str([], False)
    assert "0 trials (none)" in reporter._progress_str([], False)


def test_the_base_leaves_both_questions_open():
    for ask in (lambda it: it.should_report([]), lambda it: it.report([], True)):
        with pytest.raises(NotImplementedError):
            ask(ProgressReporter())


def test_reporters_can_be_pickled_and_copied():
    for reporter in (CLIReporter(["loss"]), JupyterNotebookReporter(False, ["loss"])):
        assert pickle.loads(pickle.dumps(reporter))._metric_columns == ["loss"]
        assert copy.deepcopy(reporter)._metric_columns == ["loss"]


def test_without_ipython_the_notebooks_reporter_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", None)
    with pytest.raises(ConfigError, match="CLIReporter"):
        JupyterNotebookReporter()


class OnlyTheEnd(CLIReporter):
    """Written as for Ray Tune."""

    def should_report(self, trials, done=False):
        return done


def test_a_subclass_decides_when(capsys):
    reporter = OnlyTheEnd()
    reporter.setup(metric="loss", mode="min")
    assert not reporter.should_report(trials())
    reporter.report(trials(), True, "one line")
    assert "one line" in capsys.readouterr().out


def test_each_run_has_an_output_of_its_own():
    """A cell that is run again with the same reporter paints below itself, not into the output of its first run."""
    reporter = JupyterNotebookReporter()
    reporter.setup()
    first = reporter._output._name
    reporter.setup()
    assert reporter._output._name != first
