from __future__ import annotations

import math
import os
import pickle

import pytest

from holdfast import values
from holdfast.checkpoint import Checkpoint
from holdfast.errors import ConfigError, ExperimentNotFound, NotFitted, TrialFailed, WorkerLost
from holdfast.logger.files import TrialFiles
from holdfast.result import Result, ResultGrid
from stories import EXPERIMENT_ID, Story, on_disk


class OwnError(Exception):
    """The user's own."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code

    def __reduce__(self):
        return OwnError, (self.code,)


class Unloadable:
    """Raises whenever somebody unpickles it."""

    def __reduce__(self):
        return _explode, ()


def _explode():
    raise RuntimeError("something was unpickled")


def grid(story, root, **options) -> ResultGrid:
    return ResultGrid(on_disk(story, root), **options)


def trained(story, *rows, end="complete", config=None) -> str:
    name = story.suggest(config)
    story.start(name)
    for row in rows:
        story.report(name, row)
    getattr(story, end)(name)
    return name


def test_results_come_in_order_of_creation_with_each_status(tmp_path):
    story = Story(max_failures=0)
    first = trained(story, {"loss": 1}, config={"lr": (1, 2), "n": 3})
    trained(story, {"loss": 2}, end="fail")
    story.suggest()
    running = story.suggest()
    story.start(running)
    results = grid(story, tmp_path)
    assert len(results) == 4
    assert (results.num_terminated, results.num_errors, len(results.errors)) == (1, 1, 1)
    assert [result.metrics["trial_id"] for result in results] == list(story.state.trials)
    assert results[0].config == {"lr": (1, 2), "n": 3}
    assert results[0].metrics["config"] == results[0].config
    assert results[0].path == str(tmp_path / story.state.trial(first).dirname)
    assert results[-1].metrics["trial_id"] == running
    assert results[2].config == {"lr": 0.2}
    assert results.experiment_path == str(tmp_path)
    with pytest.raises(IndexError):
        results[4]


def test_a_grid_is_true_even_without_trials(tmp_path):
    results = grid(Story(), tmp_path)
    assert results
    assert len(results) == 0
    assert repr(results) == "ResultGrid<[]>"
    with pytest.raises(NotFitted, match="no trial reported"):
        results.get_best_result("loss", "min")


def test_one_trial_needs_no_metric(tmp_path):
    story = Story()
    trained(story)
    assert grid(story, tmp_path).get_best_result().metrics["trial_id"] == "abcde_00000"


SCOPED = [[5.0, 1.0, 9.0], [4.0, 4.0, 4.0], [1.0] * 3 + [8.0] * 5 + [7.0]]


@pytest.mark.parametrize(
    ("scope", "mode", "best"),
    [
        ("last", "min", 1),
        ("last", "max", 0),
        ("all", "min", 0),
        ("all", "max", 0),
        ("avg", "min", 1),
        ("avg", "max", 2),
        ("last-5-avg", "max", 2),
        ("last-10-avg", "min", 1),
    ],
)
def test_scopes(tmp_path, scope, mode, best):
    story = Story()
    names = [trained(story, *({"a": {"loss": value}} for value in losses)) for losses in SCOPED]
    found = grid(story, tmp_path).get_best_result("a/loss", mode, scope)
    assert found.metrics["trial_id"] == names[best]


def test_nan_and_infinity_never_win_unless_asked_for(tmp_path):
    story = Story()
    names = [trained(story, {"loss": value}) for value in (math.nan, 3.0, math.inf, -math.inf, 2.0)]
    results = grid(story, tmp_path, metric="loss", mode="min")
    assert results.get_best_result().metrics["trial_id"] == names[4]
    assert results.get_best_result(mode="max").metrics["trial_id"] == names[1]
    assert results.get_best_result(mode="max", scope="all").metrics["trial_id"] == names[1]


def test_infinity_wins_where_asked_for(tmp_path):
    story = Story()
    names = [trained(story, {"loss": value}) for value in (3.0, math.inf, -math.inf)]
    results = grid(story, tmp_path, metric="loss", mode="max")
    assert results.get_best_result(filter_nan_and_inf=False).metrics["trial_id"] == names[1]


def test_wrong_questions_are_refused(tmp_path):
    story = Story()
    trained(story, {"loss": 1, "text": "x"})
    trained(story, {"loss": math.nan, "text": "x"})
    results = grid(story, tmp_path)
    with pytest.raises(ValueError, match="No metric is given"):
        results.get_best_result()
    with pytest.raises(ValueError, match="No mode is given"):
        results.get_best_result("loss")
    with pytest.raises(ConfigError, match="'max' or 'min'"):
        results.get_best_result("loss", "best")
    with pytest.raises(ConfigError, match="scope"):
        results.get_best_result("loss", "min", scope="first")
    with pytest.raises(RuntimeError, match="No best trial found"):
        results.get_best_result("text", "min")


def test_a_metric_missing_from_the_last_row_counts_with_its_last_value(tmp_path):
    story = Story()
    trained(story, {"loss": 1}, {"other": 1})
    trained(story, {"loss": 2})
    assert grid(story, tmp_path).get_best_result("loss", "min").metrics["trial_id"] == "abcde_00000"


def test_errors_are_the_users_own_and_gone_after_success(tmp_path):
    story = Story(max_failures=0)
    name = story.suggest()
    story.start(name)
    story.fail(name, OwnError(7))
    story.epoch(errored="resume")
    failed = Story(max_failures=0)
    for end in (OwnError(7), ValueError("x")):
        other = failed.suggest()
        failed.start(other)
        failed.fail(other, end)
    results = grid(failed, tmp_path / "failed")
    assert isinstance(results[0].error, OwnError)
    assert results[0].error.code == 7
    assert "error=OwnError" in repr(results[0])
    story.start(name)
    story.report(name)
    story.complete(name)
    assert grid(story, tmp_path / "well")[0].error is None


def test_an_exception_that_cannot_be_brought_back_is_rebuilt_by_name(tmp_path):
    import msgspec

    story = Story(max_failures=0)
    for kind in ("code", "worker"):
        name = story.suggest()
        story.start(name)
        story.fail(name, kind=kind)
        record = story.records[-1]
        failure = msgspec.structs.replace(record.event.failure, exception=pickle.dumps(Unloadable()), message="OwnError: 7")
        story.records[-1] = msgspec.structs.replace(record, event=msgspec.structs.replace(record.event, failure=failure))
    results = grid(story, tmp_path)
    assert isinstance(results[0].error, TrialFailed)
    assert "OwnError: 7" in str(results[0].error)
    assert isinstance(results[1].error, WorkerLost)


def test_representations_hide_what_is_filled_in(tmp_path):
    story = Story()
    trained(story, {"loss": 0.5})
    text = repr(grid(story, tmp_path))
    assert "'loss': 0.5" in text
    assert text.startswith("ResultGrid<[\n  Result(\n")
    assert not any(key in text for key in ("time_total_s", "hostname", "config"))


def test_dataframes(tmp_path):
    story = Story()
    name = trained(
        story, {"loss": 3, "a": {"b": 1}}, {"loss": 1, "a": {"b": 2}}, {"loss": 2, "a": {"b": 3}}, config={"net": {"w": 1}}
    )
    story.suggest()
    trained(story, {"loss": math.nan, "a": {"b": 0}})
    results = grid(story, tmp_path)
    frame = results.get_dataframe()
    assert frame["loss"][0] == 2
    assert len(frame) == 2
    assert (frame["config/net/w"][0], frame["a/b"][0], frame["logdir"][0]) == (
        1,
        3,
        str(tmp_path / story.state.trial(name).dirname),
    )
    best = results.get_dataframe("loss", "min")
    assert (best["loss"][0], best["a/b"][0]) == (1, 2)
    assert results.get_dataframe("loss", "max")["loss"][0] == 3
    rows = results[0].metrics_dataframe
    assert list(rows["loss"]) == [3, 1, 2]
    assert list(rows["training_iteration"]) == [1, 2, 3]
    assert set(rows["config/net/w"]) == {1}
    with pytest.raises(ValueError, match="needs filter_metric"):
        results.get_dataframe(filter_mode="min")
    with pytest.raises(ValueError, match="filter_mode"):
        results.get_dataframe("loss")


def checkpointed(story) -> str:
    name = story.suggest()
    story.start(name)
    for loss in (3.0, 1.0, math.nan, 2.0):
        story.report(name, {"loss": loss}, save=True)
    story.report(name, {"loss": 0.0})
    story.drop(name, 0)
    story.complete(name)
    return name


def test_kept_checkpoints_come_with_their_rows(tmp_path):
    story = Story()
    name = checkpointed(story)
    [result] = grid(story, tmp_path)
    where = tmp_path / story.state.trial(name).dirname
    assert [kept.path for kept, _ in result.best_checkpoints] == [str(where / f"checkpoint_00000{i}") for i in (1, 2, 3)]
    assert [row["loss"] for _, row in result.best_checkpoints][::2] == [1.0, 2.0]
    assert result.checkpoint == Checkpoint(str(where / "checkpoint_000003"))
    assert result.get_best_checkpoint("loss", "min").path.endswith("checkpoint_000001")
    assert result.get_best_checkpoint("loss", "max").path.endswith("checkpoint_000003")
    with pytest.raises(RuntimeError, match=r"'acc'.*'loss'"):
        result.get_best_checkpoint("acc", "max")


def test_a_result_travels_by_pickle(tmp_path):
    story = Story()
    checkpointed(story)
    [result] = grid(story, tmp_path)
    copy = pickle.loads(pickle.dumps(result))
    assert (copy.path, copy.config, copy.checkpoint) == (result.path, result.config, result.checkpoint)
    assert list(copy.metrics_dataframe["training_iteration"]) == [1, 2, 3, 4, 5]
    assert len(copy.best_checkpoints) == 3


@pytest.mark.parametrize("without", [[], ["result.json"], ["params.pkl"], ["result.json", "params.pkl"]])
def test_a_trials_directory_can_be_read_alone(tmp_path, without):
    story = Story(max_failures=0)
    name = story.suggest({"lr": 0.1, "net": {"w": 3}})
    story.start(name)
    for loss in (3.0, 1.0):
        story.report(name, {"loss": loss, "a": {"b": True}}, save=True)
    story.fail(name, OwnError(3))
    files = TrialFiles(str(tmp_path), EXPERIMENT_ID)
    state = type(story.state)()
    for record in story.records:
        state.fold(record)
        files.hear(record, state)
    files.close()
    where = tmp_path / story.state.trial(name).dirname
    for index in range(2):
        (where / f"checkpoint_00000{index}").mkdir()
    for file in without:
        os.unlink(where / file)
    result = Result.from_path(where)
    assert result.config == {"lr": 0.1, "net": {"w": 3}}
    assert (result.metrics["loss"], result.metrics["a"], result.metrics["training_iteration"]) == (1.0, {"b": True}, 2)
    assert [row["loss"] for _, row in result.best_checkpoints] == [3.0, 1.0]
    assert result.get_best_checkpoint("loss", "max").path == str(where / "checkpoint_000000")
    assert isinstance(result.error, OwnError)
    assert list(result.metrics_dataframe["loss"]) == [3.0, 1.0]


def test_what_is_no_trials_directory_is_refused(tmp_path):
    with pytest.raises(ExperimentNotFound, match="no directory"):
        Result.from_path(tmp_path / "nothing")
    with pytest.raises(ExperimentNotFound, match="holds none of"):
        Result.from_path(tmp_path)
    with pytest.raises(ConfigError, match="local"):
        Result.from_path(tmp_path, storage_filesystem=object())


def test_rows_are_read_only_when_asked_for(tmp_path):
    story = Story()
    trained(story, {"loss": 1.0})
    trained(story, {"loss": 2.0})
    storage = on_disk(story, tmp_path)
    results = ResultGrid(storage, "loss", "min", state=story.state)
    journal = tmp_path / "journal"
    journal.rename(tmp_path / "away")
    assert results.get_best_result().metrics["loss"] == 1.0
    (tmp_path / "away").rename(journal)
    assert list(results[0].metrics_dataframe["loss"]) == [1.0]


def test_values_keep_their_types(tmp_path):
    import numpy as np

    story = Story()
    config = {"t": (1, 2), 3: np.float32(0.5), "none": None, "class": OwnError}
    name = trained(story, {"loss": np.float64(1.5)}, config=config)
    assert values.decode(story.state.trial(name).config) != config
    [result] = grid(story, tmp_path)
    assert result.config == config
    assert type(result.config[3]) is np.float32
