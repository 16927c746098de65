"""Plots of an experiment told by hand, drawn by both libraries: what they show, read back from the figures."""

from __future__ import annotations

import sys

import pytest

from holdfast.errors import ConfigError, NotFitted
from holdfast.plots import PlottedAttempt, PlottedTrial
from holdfast.plots.importance import importances
from holdfast.plots.methods import Plotted
from holdfast.result import ResultGrid
from stories import Story, on_disk

BACKENDS = ("plotly", "matplotlib")
PLOTS = (
    "plot_optimization_history",
    "plot_learning_curves",
    "plot_parallel_coordinates",
    "plot_parameter_importance",
    "plot_attempts",
)


def told() -> Story:
    """Four trials with rows, the third's last row NaN; a fifth that failed; a sixth that was lost and waits."""
    story = Story(metric="loss", mode="min", max_failures=0)
    for lr, kind, loss in ((0.001, "a", 3.0), (0.5, "b", 1.0), (0.1, "a", float("nan")), (0.01, "b", 2.0)):
        name = story.suggest({"lr": lr, "net": {"kind": kind}, "fixed": 7})
        story.start(name)
        story.report(name, {"loss": 0.5 if lr == 0.001 else 9.0})
        story.report(name, {"loss": loss})
        story.complete(name)
    failed, lost = (
        story.suggest({"lr": 0.3, "net": {"kind": "a"}, "fixed": 7}),
        story.suggest({"lr": 0.4, "net": {"kind": "b"}, "fixed": 7}),
    )
    story.start(failed)
    story.fail(failed, ValueError("no luck"), kind="oom")
    story.start(lost)
    story.row(lost, {"loss": 4.0})
    story.lose(lost)
    story.epoch()
    return story


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> ResultGrid:
    return ResultGrid(on_disk(told(), tmp_path_factory.mktemp("exp")), "loss", "min")


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("plot", PLOTS)
def test_each_plot_can_be_written(grid, tmp_path, backend, plot):
    figure = getattr(grid, plot)(backend=backend)
    path = tmp_path / "figure"
    if backend == "plotly":
        figure.write_html(path)
    else:
        figure.savefig(path, format="png")
    assert path.stat().st_size > 5000


def test_history_has_each_value_and_the_best_so_far(grid):
    each, best = grid.plot_optimization_history(backend="plotly").data
    assert (list(each.x), list(each.y)) == ([0, 1, 3, 5], [3.0, 1.0, 2.0, 4.0])
    assert list(best.y) == [3.0, 1.0, 1.0, 1.0]
    _, best = grid.plot_optimization_history(mode="max", scope="all", backend="plotly").data
    assert list(best.y) == [3.0, 9.0, 9.0, 9.0, 9.0]
    [axes] = grid.plot_optimization_history(backend="matplotlib").axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[3.0, 1.0, 2.0, 4.0], [3.0, 1.0, 1.0, 1.0]]


def test_learning_curves_have_all_rows(grid):
    curves = grid.plot_learning_curves(backend="plotly").data
    assert [curve.name for curve in curves] == [f"abcde_0000{n}" for n in (0, 1, 2, 3, 5)]
    assert list(curves[0].y) == [0.5, 3.0]
    assert list(grid.plot_learning_curves(x="time_total_s", backend="plotly").data[0].x) == [0.5, 1.0]
    with pytest.raises(NotFitted, match="'nothing'"):
        grid.plot_learning_curves(x="nothing")


def test_parallel_coordinates_have_an_axis_for_what_differs(grid):
    [lines] = grid.plot_parallel_coordinates(backend="plotly").data
    rate, kind, loss = lines.dimensions
    assert [axis.label for axis in (rate, kind, loss)] == ["lr", "net/kind", "loss"]
    assert list(rate["values"]) == pytest.approx([-3.0, -0.30103, -2.0, -0.39794], abs=1e-4)  # a hundredfold: logarithmic
    assert (rate.ticktext[0], rate.ticktext[-1]) == ("0.001", "0.5")
    assert (list(kind["values"]), list(kind.ticktext)) == ([0.0, 1.0, 1.0, 1.0], ["a", "b"])
    assert list(loss["values"]) == [3.0, 1.0, 2.0, 4.0]
    [lines] = grid.plot_parallel_coordinates(parameters=["fixed"], backend="plotly").data
    assert [axis.label for axis in lines.dimensions] == ["fixed", "loss"]
    with pytest.raises(ConfigError, match="'other'"):
        grid.plot_parallel_coordinates(parameters=["other"])


def test_attempts_show_when_each_ran_and_how_it_ended(grid):
    figure = grid.plot_attempts(backend="plotly")
    by_name = {trace.name: trace for trace in figure.data}
    assert set(by_name) == {"completed", "failed (oom)", "lost", "failure"}
    assert list(by_name["failed (oom)"].y) == list(by_name["failure"].y) == ["abcde_00004"]
    assert "attempt 1: failed (oom): no luck" in by_name["failure"].text[0]
    assert len(by_name["completed"].y) == 4
    begin, length = by_name["failed (oom)"].base[0], by_name["failed (oom)"].x[0]
    assert by_name["failure"].x[0] == begin + length


def test_a_lost_attempt_ends_at_its_last_row(grid):
    """The record of its loss is the next driver's, which may come days later."""
    [lost] = [attempt for trial in grid._to_plot() for attempt in trial.attempts if attempt.outcome == "lost"]
    assert lost.ended == 1.7e9


class Trials(Plotted):
    def __init__(self, *trials: PlottedTrial) -> None:
        self.trials = list(trials)

    def _to_plot(self) -> list[PlottedTrial]:
        return self.trials

    def _objective(self, metric, mode):
        return metric or "loss", mode or "min"


def test_an_attempt_that_runs_ends_at_what_was_last_heard():
    trial = PlottedTrial("one", {}, [{"timestamp": 130}], [PlottedAttempt(1, 100.0, 0.0, "running", "", "")])
    [bar] = Trials(trial).plot_attempts(backend="plotly").data
    assert (bar.name, list(bar.base), list(bar.x)) == ("running", [0.0], [30.0])
    with pytest.raises(NotFitted, match="No attempt"):
        Trials().plot_attempts()


def test_whole_numbers_have_ticks_of_their_own():
    trials = [PlottedTrial(str(n), {"layers": n, "mixed": n if n % 2 else "even"}, [{"loss": 1.0}], []) for n in (1, 2, 4)]
    [lines] = Trials(*trials).plot_parallel_coordinates(backend="plotly").data
    layers, mixed, loss = lines.dimensions
    assert list(layers.ticktext) == ["1", "2", "4"]
    assert list(mixed.ticktext) == ["1", "even"]
    assert list(loss.ticktext) == ["1"]


def test_what_decides_is_important(monkeypatch):
    configs = [{"x": n / 20, "noise": (n * 7) % 20 / 20, "name": "ab"[n % 2], "same": 1} for n in range(20)]
    values = [config["x"] ** 2 for config in configs]
    for evaluator in ("fanova", "mdi", "ped_anova"):
        shares = importances(configs, values, "min", evaluator, None)
        assert next(iter(shares)) == "x", evaluator
        assert set(shares) == {"x", "noise", "name"}
        assert sum(shares.values()) == pytest.approx(1.0)
        assert shares == importances(configs, values, "min", evaluator, None)
    assert set(importances(configs, values, "min", "fanova", ["x", "noise"])) == {"x", "noise"}
    partly = [*configs[:-1], {"x": 0.5}]
    assert set(importances(partly, values, "max", "mdi", None)) == {"x"}
    with pytest.raises(ConfigError, match="'shapley'"):
        importances(configs, values, "min", "shapley", None)
    with pytest.raises(NotFitted, match="two trials"):
        importances(configs[:1], values[:1], "min", "mdi", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ConfigError, match=r"needs sklearn.*holdfast\[plot\]"):
        importances(configs, values, "min", "fanova", None)
    assert importances(configs, values, "min", "ped_anova", None)


def test_plotly_is_the_first_choice_and_matplotlib_the_second(grid, monkeypatch):
    assert type(grid.plot_attempts()).__module__.startswith("plotly")
    monkeypatch.setitem(sys.modules, "plotly", None)
    assert type(grid.plot_attempts()).__module__.startswith("matplotlib")
    with pytest.raises(ConfigError, match=r"Plots need plotly,.*holdfast\[plot\]"):
        grid.plot_attempts(backend="plotly")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"plotly or matplotlib.*holdfast\[plot\]"):
        grid.plot_attempts()
    with pytest.raises(ConfigError, match="'pyplot'"):
        grid.plot_attempts(backend="pyplot")


def test_what_cannot_be_drawn_is_refused(grid, tmp_path):
    with pytest.raises(NotFitted, match="'accuracy'"):
        grid.plot_optimization_history("accuracy")
    with pytest.raises(ConfigError, match="'largest'"):
        grid.plot_optimization_history(mode="largest")
    with pytest.raises(ConfigError, match="'first'"):
        grid.plot_optimization_history(scope="first")
    with pytest.raises(ConfigError, match="No metric is given"):
        ResultGrid(on_disk(Story(), tmp_path)).plot_learning_curves()
