from __future__ import annotations

import csv
import json
import math
import os
import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import values
from holdfast._core.events import EpochStarted, SchedulerOrdered, Steering
from holdfast._core.experiment import ExperimentState
from holdfast._projection.history import History
from holdfast.errors import StorageError, TrialFailed
from holdfast.logger.cursor import NAME, Cursor
from holdfast.logger.files import TrialFiles
from holdfast.logger.tensorboard import NAME as EVENTS
from stories import EXPERIMENT_ID, Story, drawn


class Driver:
    """Follows records as a driver does: folds, then lets the files hear."""

    def __init__(self, directory, story, **options) -> None:
        self.directory, self.story, self.options = str(directory), story, {"tensorboard": True, **options}
        self.state, self.history = ExperimentState(), History()
        self.files = self.new()

    def new(self) -> TrialFiles:
        return TrialFiles(self.directory, EXPERIMENT_ID, load=self.story.load, **self.options)

    def take(self, record) -> None:
        self.state.fold(record)
        self.history.hear(record, self.state)
        self.files.hear(record, self.state)

    def catch_up_with(self, record) -> None:
        """A new driver takes charge by that record; the old one is gone without a word."""
        self.state.fold(record)
        self.history.hear(record, self.state)
        self.files = self.new()
        self.files.catch_up(self.history, self.state)


def written(story, directory, **options) -> Driver:
    driver = Driver(directory, story, **options)
    for record in story.records:
        driver.take(record)
    driver.files.close()
    return driver


def trial_dir(story, name, directory) -> str:
    return os.path.join(str(directory), story.state.trial(name).dirname)


def rows_in(where) -> list[dict]:
    with open(os.path.join(where, "result.json"), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def table_in(where) -> list[dict]:
    with open(os.path.join(where, "progress.csv"), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(directory) -> dict[str, bytes]:
    found = {}
    for where, _, names in os.walk(directory):
        for name in names:
            if name != NAME:
                path = os.path.join(where, name)
                with open(path, "rb") as file:
                    found[os.path.relpath(path, directory)] = file.read()
    return found


def test_a_trial_gets_the_files_of_ray_tune(tmp_path):
    story = Story()
    name = story.suggest({"lr": 0.1, "net": {"width": 3}})
    story.start(name)
    story.report(name, {"loss": 0.5, "acc": {"top": 1}}, save=True)
    story.report(name, {"loss": 0.25, "acc": {"top": 2}})
    story.complete(name)
    written(story, tmp_path)
    where = trial_dir(story, name, tmp_path)
    assert sorted(os.listdir(where)) == [EVENTS, "params.json", "params.pkl", "progress.csv", "result.json"]
    with open(os.path.join(where, "params.json"), encoding="utf-8") as file:
        assert json.load(file) == {"lr": 0.1, "net": {"width": 3}}
    with open(os.path.join(where, "params.pkl"), "rb") as file:
        assert pickle.load(file) == {"lr": 0.1, "net": {"width": 3}}
    first, second = rows_in(where)
    assert (first["loss"], first["acc"], first["checkpoint_dir_name"]) == (0.5, {"top": 1}, "checkpoint_000000")
    assert second["checkpoint_dir_name"] is None
    assert first["config"] == {"lr": 0.1, "net": {"width": 3}}
    assert (first["trial_id"], first["experiment_tag"], first["training_iteration"], first["pid"]) == (name, "0_lr=0", 1, 1001)
    table = table_in(where)
    assert [row["acc/top"] for row in table] == ["1", "2"]
    assert not any(key.startswith("config") for key in table[0])


def test_odd_values_are_written_so_that_python_reads_them_back(tmp_path):
    story = Story()
    name = story.suggest({"lr": float("inf")})
    story.start(name)
    story.report(name, {"loss": math.nan, "low": -math.inf, "big": 2**80, "text": 'a "b",\nc\0', "list": [1, (2,)]})
    story.report(name, {"loss": 1.0, "low": 0.0, "big": 1, "text": "\ud800", "list": complex(1, 2)})
    story.complete(name)
    written(story, tmp_path)
    where = trial_dir(story, name, tmp_path)
    first, second = rows_in(where)
    assert math.isnan(first["loss"])
    assert (first["low"], first["big"], first["list"], first["config"]) == (-math.inf, 2**80, [1, [2]], {"lr": math.inf})
    assert second["list"] == "(1+2j)"
    table = table_in(where)
    assert (table[0]["loss"], table[0]["low"], table[0]["text"]) == ("nan", "-inf", 'a "b",\nc\\0')


def test_an_undecided_row_waits_for_what_callbacks_change_in_it(tmp_path):
    story = Story()
    name = story.suggest()
    story.start(name)
    story.row(name, {"loss": 1})
    driver = Driver(tmp_path, story)
    for record in story.records:
        driver.take(record)
    driver.files.flush()
    assert not os.path.exists(os.path.join(trial_dir(story, name, tmp_path), "result.json"))
    story.decide(name, changes={"loss": 2, "extra": 3})
    driver.take(story.records[-1])
    driver.files.flush()
    driver.files.close()
    [row] = rows_in(trial_dir(story, name, tmp_path))
    assert (row["loss"], row["extra"]) == (2, 3)


def test_redone_rows_replace_the_first_ones_and_late_keys_become_columns(tmp_path):
    story = Story()
    name = story.suggest()
    story.start(name)
    for loss in range(4):
        story.report(name, {"loss": loss}, save=loss == 0, changes={"seen": loss})
    story.fail(name)
    story.start(name)
    for loss in range(11, 15):
        story.report(name, {"loss": loss, "late": loss})
    story.complete(name)
    driver = Driver(tmp_path, story)
    for record in story.records:
        driver.take(record)
        driver.files.flush()  # as often as can be: each step must leave the files right for the next
    driver.files.close()
    where = trial_dir(story, name, tmp_path)
    assert [row["loss"] for row in rows_in(where)] == [0, 11, 12, 13, 14]
    assert [row.get("seen") for row in rows_in(where)] == [0, 1, 2, 3, None]
    assert [row["late"] for row in table_in(where)] == ["", "11", "12", "13", "14"]


def test_flush_keeps_its_pace_and_writes_nothing_for_a_driver_that_was_replaced(tmp_path):
    story = Story()
    name = story.suggest()
    story.start(name)
    story.report(name)
    in_charge = [False]
    driver = Driver(tmp_path, story, in_charge=lambda: in_charge[0])
    for record in story.records:
        driver.take(record)
    driver.files.flush()
    assert os.listdir(tmp_path) == []
    in_charge[0] = True
    driver.files.flush(now=100.0)
    assert len(rows_in(trial_dir(story, name, tmp_path))) == 1
    for now, count in ((100.1, 1), (100.3, 2)):
        if count == 1:
            story.report(name)
            for record in story.records[-2:]:
                driver.take(record)
        driver.files.flush(now=now)
        assert len(rows_in(trial_dir(story, name, tmp_path))) == count
    driver.files.close()


def test_failures_are_told_one_after_another_and_the_exception_goes_with_success(tmp_path):
    story = Story()
    name = story.suggest()
    story.start(name)
    story.fail(name, ValueError("first"))
    story.start(name)
    story.fail(name, KeyError("second"))
    written(story, tmp_path / "failed")
    where = trial_dir(story, name, tmp_path / "failed")
    with open(os.path.join(where, "error.txt"), encoding="utf-8") as file:
        text = file.read()
    assert text.index("Failure of attempt 1") < text.index("ValueError('first')") < text.index("Failure of attempt 2")
    with open(os.path.join(where, "error.pkl"), "rb") as file:
        assert isinstance(pickle.load(file), KeyError)
    story.start(name)
    story.report(name)
    story.complete(name)
    written(story, tmp_path / "well")
    assert not os.path.exists(os.path.join(trial_dir(story, name, tmp_path / "well"), "error.pkl"))


def test_a_failure_without_an_exception_is_a_trial_failed(tmp_path):
    story = Story(max_failures=0)
    name = story.suggest()
    story.start(name)
    story.fail(name)
    failed = story.records[-1]
    import msgspec

    story.records[-1] = msgspec.structs.replace(
        failed, event=msgspec.structs.replace(failed.event, failure=msgspec.structs.replace(failed.event.failure, exception=b""))
    )
    written(story, tmp_path)
    with open(os.path.join(trial_dir(story, name, tmp_path), "error.pkl"), "rb") as file:
        assert isinstance(pickle.load(file), TrialFailed)


@pytest.mark.parametrize(
    ("json_files", "csv_files", "events"),
    [(True, False, False), (False, True, False), (False, False, False), (False, False, True)],
)
def test_only_the_wanted_files_are_written(tmp_path, json_files, csv_files, events):
    story = Story()
    name = story.suggest()
    story.start(name)
    story.report(name)
    story.complete(name)
    written(story, tmp_path, json=json_files, csv=csv_files, tensorboard=events)
    where = trial_dir(story, name, tmp_path)
    wanted = ["params.json", "params.pkl", "result.json"] * json_files + ["progress.csv"] * csv_files + [EVENTS] * events
    assert sorted(os.listdir(where) if os.path.exists(where) else []) == sorted(wanted)


class Secret:
    """An object of a config that only a pickle can keep."""

    def __init__(self, value) -> None:
        self.value = value

    def __str__(self) -> str:
        return f"secret {self.value}"


def test_an_object_in_a_config_is_revived_with_load_and_left_alone_without(tmp_path):
    story = Story()
    name = story.suggest({"object": Secret(3)})
    story.start(name)
    story.complete(name)
    written(story, tmp_path / "with")
    with open(os.path.join(trial_dir(story, name, tmp_path / "with"), "params.pkl"), "rb") as file:
        assert pickle.load(file)["object"].value == 3
    files = TrialFiles(str(tmp_path / "without"), EXPERIMENT_ID)
    state, history = ExperimentState(), History()
    for record in story.records:
        state.fold(record)
        history.hear(record, state)
    files.catch_up(history, state)
    where = trial_dir(story, name, tmp_path / "without")
    assert os.listdir(where) == ["params.json"]
    with open(os.path.join(where, "params.json"), encoding="utf-8") as file:
        assert "Secret" in json.load(file)["object"]


def test_a_file_that_somebody_cut_is_refused_and_written_anew_by_the_next_driver(tmp_path):
    story = Story()
    name = story.suggest()
    story.start(name)
    story.report(name)
    story.report(name)
    driver = Driver(tmp_path, story)
    for record in story.records:
        driver.take(record)
    driver.files.flush()
    path = os.path.join(trial_dir(story, name, tmp_path), "result.json")
    with open(path, "wb"):
        pass
    story.lose(name)
    story.start(name)
    story.report(name)
    for record in story.records[-3:]:
        driver.take(record)
    with pytest.raises(StorageError, match="changed by somebody else"):
        driver.files.close()
    story.epoch()
    driver.catch_up_with(story.records[-1])
    assert len(rows_in(os.path.dirname(path))) == 2
    driver.files.close()


def test_a_fenced_driver_that_wakes_up_changes_no_file(tmp_path):
    story = Story()
    name = story.suggest()
    story.start(name)
    story.report(name)
    driver = Driver(tmp_path, story)
    for record in story.records:
        driver.take(record)
    driver.files.flush()
    old = driver.files
    late = Story()  # what the old driver heard last, and still wants to write
    late.records, late.state = list(story.records), story.state
    heard = ExperimentState()
    for record in story.records:
        heard.fold(record)
    story.lose(name)
    story.epoch()
    driver.take(story.records[-2])
    driver.catch_up_with(story.records[-1])
    before = contents(tmp_path)
    other = Story()
    other_name = other.suggest()
    other.start(other_name)
    other.report(other_name)
    other.report(other_name, {"loss": "late"})
    for record in other.records[len(late.records) :]:
        heard.fold(record)
        old.hear(record, heard)
    old.flush()
    assert contents(tmp_path) == before
    old.close()
    driver.files.close()


def crash_through(story, directory, rng) -> None:
    """Follows a story whose drivers die at each `EpochStarted`, with files torn where the cursor does not vouch for them."""
    driver = Driver(directory, story)
    for record in story.records:
        if isinstance(record.event, EpochStarted) and record.event.epoch > 1:
            if rng.random() < 0.5:
                driver.files.flush()
            _tear(driver, rng)
            driver.catch_up_with(record)
            continue
        driver.take(record)
        if rng.random() < 0.3:
            driver.files.flush()
    driver.files.close()


def _tear(driver, rng) -> None:
    """What a killed driver may leave of files that it was writing; those that the cursor vouches for were written before."""
    sure = Cursor(driver.directory, "jct-").read()
    for trial in driver.state.trials.values():
        where = os.path.join(driver.directory, trial.dirname)
        told = driver.history.trial(trial.trial_id)
        written = told.position <= sure and not told.open()
        if written or not os.path.isdir(where) or rng.random() < 0.5:
            continue
        for name in os.listdir(where):
            path = os.path.join(where, name)
            os.truncate(path, rng.randrange(os.stat(path).st_size + 1))
        with open(os.path.join(where, ".result.json.0000.aside"), "wb"):
            pass


def present(story, directory) -> dict[str, bytes]:
    """The files of the branches that a user sees."""
    shown = {trial.dirname for trial in story.state.trials.values()}
    return {path: data for path, data in contents(directory).items() if path.split(os.sep)[0] in shown}


@given(seed=st.integers(0, 2**32))
def test_after_any_crashes_the_files_are_what_the_history_says(tmp_path_factory, seed):
    rng = random.Random(seed)
    story = drawn(rng, steps=50)
    crashed, fresh = tmp_path_factory.mktemp("crashed"), tmp_path_factory.mktemp("fresh")
    crash_through(story, crashed, rng)
    reference = Driver(fresh, story)
    for record in story.records:
        reference.state.fold(record)
        reference.history.hear(record, reference.state)
    reference.files.catch_up(reference.history, reference.state)
    reference.files.close()
    assert present(story, crashed) == present(story, fresh)
    for trial in story.state.trials.values():
        where = os.path.join(str(crashed), trial.dirname)
        rows = list(reference.history.full_rows(trial, EXPERIMENT_ID))
        if rows:
            assert [row["pid"] for row in rows_in(where)] == [row["pid"] for row in rows]
            assert len(table_in(where)) == len(rows)


def test_the_cursor_spares_finished_trials_and_nothing_else(tmp_path):
    story = Story()
    done, open_ = story.suggest(), story.suggest()
    for name in (done, open_):
        story.start(name)
        story.report(name)
    story.complete(done)
    driver = Driver(tmp_path, story)
    for record in story.records:
        driver.take(record)
    driver.files.flush()
    for name in (done, open_):
        with open(os.path.join(trial_dir(story, name, tmp_path), "result.json"), "ab") as file:
            file.write(b"torn")
    story.epoch()
    driver.catch_up_with(story.records[-1])
    assert b"torn" in contents(tmp_path)[f"{story.state.trial(done).dirname}/result.json"]
    assert b"torn" not in contents(tmp_path)[f"{story.state.trial(open_).dirname}/result.json"]
    # A cursor of another boot of the machine vouches for nothing.
    (tmp_path / NAME).write_text("999 another-boot jct-\n")
    driver.files = driver.new()
    driver.files.catch_up(driver.history, driver.state)
    assert b"torn" not in contents(tmp_path)[f"{story.state.trial(done).dirname}/result.json"]
    driver.files.close()


def test_a_redo_that_its_driver_left_unwritten_is_written_by_one_that_gives_the_trial_up(tmp_path):
    story = Story()
    redoing, done = story.suggest(), story.suggest()
    story.start(redoing)
    for loss in (1, 2, 3):
        story.report(redoing, {"loss": loss}, save=loss == 1)
    story.fail(redoing)
    driver = Driver(tmp_path, story)
    for record in story.records:
        driver.take(record)
    driver.files.flush()
    seen = len(story.records)
    story.start(redoing)
    story.report(redoing, {"loss": 20})
    story.start(done)
    story.complete(done)
    for record in story.records[seen:]:
        driver.take(record)
    driver.files.flush()  # the cursor is now behind the redone row, which waits for the rest of the redo
    where = trial_dir(story, redoing, tmp_path)
    assert [row["loss"] for row in rows_in(where)] == [1, 2, 3]
    story.epoch(unfinished="skip")
    driver.catch_up_with(story.records[-1])
    assert [row["loss"] for row in rows_in(where)] == [1, 20, 3]
    driver.files.close()


def test_a_row_names_the_checkpoint_that_came_after_it(tmp_path):
    """Asked for by the decision, when it is waited for; or by the end of the trial, when the row is there already."""
    story = Story()
    driver = Driver(tmp_path, story)
    name = story.suggest()
    story.start(name)
    story.row(name, {"loss": 1})
    story.decide(name, save=True)
    heard = 0

    def written():
        nonlocal heard
        for record in story.records[heard:]:
            driver.take(record)
        heard = len(story.records)
        driver.files.flush()
        path = tmp_path / story.state.trial(name).dirname / "result.json"
        return [json.loads(line)["checkpoint_dir_name"] for line in path.read_text().splitlines()] if path.exists() else []

    assert written() == [], "its checkpoint is to come"
    story.commit(name)
    assert written() == ["checkpoint_000000"]
    story.row(name, {"loss": 2})
    story.decide(name, save=True)
    story.row(name, {"loss": 3})  # nothing came
    story.decide(name)
    assert written() == ["checkpoint_000000", None, None]
    story.row(name, {"loss": 4})
    story.decide(name, "STOP")
    assert written() == ["checkpoint_000000", None, None, None]
    story.commit(name)
    assert written() == ["checkpoint_000000", None, None, "checkpoint_000001"]
    story.stopped(name)
    assert written() == ["checkpoint_000000", None, None, "checkpoint_000001"]
    driver.files.close()


def test_rows_keep_the_config_that_they_ran_with_and_params_show_the_newest(tmp_path):
    story = Story()
    story.start(name := story.suggest({"lr": 0.5, "net": {"width": 3}}))
    for config in ({"lr": 0.25, "net": {"width": 3}}, {"lr": 0.125, "net": {"width": 4}}):
        story.row(name, save=True)
        story.decide(name, "PAUSE", {"added": 1})
        story.stopped(name)
        encoded = values.encode(config)
        story.add(SchedulerOrdered(0, [Steering(name, "change", encoded, encoded, f"0@perturbed[lr={config['lr']}]", name)]))
        story.start(name)
    story.row(name)
    story.decide(name, "CONTINUE")
    written(story, tmp_path / "live")
    where = trial_dir(story, name, tmp_path / "live")
    rows = rows_in(where)
    assert [row["config"]["lr"] for row in rows] == [0.5, 0.25, 0.125]
    assert [row["config"]["net"]["width"] for row in rows] == [3, 3, 4]
    assert [row["experiment_tag"] for row in rows] == ["0_lr=0", "0@perturbed[lr=0.25]", "0@perturbed[lr=0.125]"]
    with open(os.path.join(where, "params.json"), encoding="utf-8") as file:
        assert json.load(file) == {"lr": 0.125, "net": {"width": 4}}
    with open(os.path.join(where, "params.pkl"), "rb") as file:
        assert pickle.load(file) == {"lr": 0.125, "net": {"width": 4}}
    story.epoch()
    again = Driver(tmp_path / "again", story)
    for record in story.records[:-1]:
        again.state.fold(record)
        again.history.hear(record, again.state)
    again.catch_up_with(story.records[-1])
    again.files.close()
    names = ("result.json", "progress.csv", "params.json", "params.pkl")
    where_again = trial_dir(story, name, tmp_path / "again")
    for file_name in names:
        with open(os.path.join(where, file_name), "rb") as one, open(os.path.join(where_again, file_name), "rb") as other:
            assert one.read() == other.read()
