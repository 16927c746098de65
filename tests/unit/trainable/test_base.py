"""A class trainable on its own: its life without a Tuner."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.checkpoint import Checkpoint
from holdfast.errors import ConfigError, ReportRefused
from holdfast.trainable import Trainable, can_save
from holdfast.trainable.base import Seat, load_from, made, reseated, save_into


class Counter(Trainable):
    """Counts, and writes down what is asked of it."""

    def setup(self, config):
        self.calls = ["setup"]
        self.value = config.pop("start", 0)

    def step(self):
        self.calls.append(f"step {self.iteration}")
        self.value += self.config.get("by", 1)
        return {"value": self.value, "timesteps_this_iter": 5, "episodes_this_iter": 1}

    def save_checkpoint(self, checkpoint_dir):
        Path(checkpoint_dir, "value").write_text(str(self.value))

    def load_checkpoint(self, checkpoint):
        self.calls.append(f"load at {self.iteration}")
        self.value = int(Path(checkpoint, "value").read_text())

    def cleanup(self):
        self.calls.append("cleanup")


class Remembering(Counter):
    """Saves a dictionary."""

    def save_checkpoint(self, checkpoint_dir):
        return {"value": self.value}

    def load_checkpoint(self, checkpoint):
        self.value = checkpoint["value"]


def test_it_trains_and_fills_in_what_ray_tune_fills_in() -> None:
    trainable = Counter({"by": 2})
    assert (trainable.iteration, trainable.training_iteration, trainable.get_config()) == (0, 0, {"by": 2})
    trainable.train()
    row = trainable.train()
    assert {key: row[key] for key in ("value", "training_iteration", "iterations_since_restore", "done", "config")} == {
        "value": 4,
        "training_iteration": 2,
        "iterations_since_restore": 2,
        "done": False,
        "config": {"by": 2},
    }
    assert (row["timesteps_total"], row["timesteps_since_restore"], row["episodes_total"]) == (10, 10, 2)
    assert row["time_total_s"] >= row["time_this_iter_s"] >= 0
    assert row["pid"] == os.getpid()
    assert trainable.calls == ["setup", "step 0", "step 1"]


def test_setup_may_change_its_copy_of_the_config() -> None:
    trainable = Counter({"start": 7, "nested": {"a": [1]}})
    assert trainable.config == {"start": 7, "nested": {"a": [1]}}
    assert trainable.value == 7


def test_what_the_user_gives_under_a_filled_in_name_stays() -> None:
    class Own(Trainable):
        def step(self):
            return {"training_iteration": 100, "timesteps_this_iter": 1, "timesteps_total": 50, "done": True}

    row = Own().train()
    assert (row["training_iteration"], row["timesteps_total"], row["done"]) == (100, 50, True)


@pytest.mark.parametrize("kind", [Counter, Remembering])
@pytest.mark.parametrize("form", ["result", "checkpoint", "path", "str"])
def test_what_was_saved_is_gone_on_from_with_its_counters(tmp_path: Path, kind: type[Trainable], form: str) -> None:
    first = kind({})
    for _ in range(3):
        first.train()
    saved = first.save(tmp_path / "here")
    given = {"result": saved, "checkpoint": saved.checkpoint, "path": tmp_path / "here", "str": str(tmp_path / "here")}[form]
    second = kind({})
    second.restore(given)
    assert second.iteration == 3
    row = second.train()
    assert (row["value"], row["training_iteration"], row["iterations_since_restore"]) == (4, 4, 1)
    assert (row["timesteps_total"], row["timesteps_since_restore"], row["episodes_total"]) == (20, 5, 4)
    assert row["time_total_s"] > saved.metrics["time_total_s"]
    assert row["time_since_restore"] == pytest.approx(row["time_total_s"] - saved.metrics["time_total_s"])


def test_the_counters_are_set_when_the_checkpoint_is_loaded(tmp_path: Path) -> None:
    first = Counter({})
    first.train()
    second = Counter({})
    second.restore(first.save(tmp_path))
    assert second.calls == ["setup", "load at 1"]


def test_a_checkpoint_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        Counter({}).restore(tmp_path / "missing")


def test_its_directory_is_made_when_first_asked_for(tmp_path: Path) -> None:
    trainable = Counter({}, storage=tmp_path / "base")
    assert not (tmp_path / "base").exists()
    saved = trainable.save()
    assert Path(saved.checkpoint.path).is_relative_to(trainable.logdir)
    assert Path(trainable.logdir).parent == tmp_path / "base"
    assert trainable.save().checkpoint != saved.checkpoint


@pytest.mark.parametrize("returned", ["elsewhere", 7, ["a"]])
def test_another_path_than_the_one_given_is_refused(tmp_path: Path, returned: object) -> None:
    class Odd(Trainable):
        def save_checkpoint(self, checkpoint_dir):
            return returned

    with pytest.raises(ValueError, match="Write into the directory that it is given"):
        Odd().save(tmp_path)


def test_the_directory_itself_may_be_returned(tmp_path: Path) -> None:
    class Fair(Trainable):
        def save_checkpoint(self, checkpoint_dir):
            return os.path.join(checkpoint_dir, ".")

        def load_checkpoint(self, checkpoint):
            self.loaded = checkpoint

    trainable = Fair()
    trainable.restore(trainable.save(tmp_path))
    assert trainable.loaded == str(tmp_path)


def test_step_must_return_a_dictionary() -> None:
    class Odd(Trainable):
        def step(self):
            return 3

    with pytest.raises(ReportRefused, match="step\\(\\) returned int"):
        Odd().train()


@pytest.mark.parametrize("call", [lambda t: t.train(), lambda t: t.save("."), lambda t: t.load_checkpoint({})])
def test_what_is_not_written_says_so(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotImplementedError, match="Trainable has no"):
        call(Trainable())


def test_cleanup_comes_once() -> None:
    trainable = Counter({})
    trainable.stop()
    trainable.stop()
    assert trainable.calls == ["setup", "cleanup"]


def test_reset_gives_another_config_where_the_class_can_do_that() -> None:
    class Able(Counter):
        def reset_config(self, new_config):
            self.calls.append((self.config, new_config))
            self.value = 0
            return True

    trainable = Able({"by": 1})
    trainable.train()
    assert trainable.reset({"by": 3})
    assert trainable.train()["value"] == 3
    assert (trainable.iteration, trainable.config) == (1, {"by": 3})
    assert ({"by": 1}, {"by": 3}) in trainable.calls
    unable = Counter({"by": 1})
    assert not unable.reset({"by": 3})
    assert unable.config == {"by": 1}


def test_log_result_hears_the_full_row() -> None:
    class Logging(Counter):
        def log_result(self, result):
            self.logged = result

    trainable = Logging({})
    assert trainable.train() == trainable.logged


def test_export_goes_through_what_the_user_wrote(tmp_path: Path) -> None:
    class Exporting(Counter):
        def _export_model(self, export_formats, export_dir):
            return {each: f"{export_dir}/{each}" for each in export_formats}

    assert Exporting({}).export_model("onnx", "/x") == {"onnx": "/x/onnx"}
    assert Counter({}, storage=tmp_path).export_model(["onnx"]) == {}


def test_alone_it_is_nobodys_trial() -> None:
    trainable = Counter({})
    assert (trainable.trial_id, trainable.trial_name, trainable.trial_resources) == ("default", "default", "default")
    assert Counter.default_resource_request({}) is None
    assert Counter.resource_help({}) == ""


def test_a_seat_is_there_in_setup_and_is_nobody_elses_after(tmp_path: Path) -> None:
    class Looking(Trainable):
        def setup(self, config):
            self.seen = (self.trial_id, self.logdir)
            self.inner = Counter({})

    seated = made(Looking, {}, Seat("id", "name", lambda: {"cpu": 1.0}, str(tmp_path)))
    assert isinstance(seated, Looking)
    assert seated.seen == ("id", str(tmp_path))
    assert seated.trial_resources == {"cpu": 1.0}
    assert Counter({}).trial_id == "default"
    assert seated.inner.trial_id == "default"


def test_an_instance_that_changes_its_trial_begins_to_count_anew(tmp_path: Path) -> None:
    class Able(Counter):
        def reset_config(self, new_config):
            self.seen = self.trial_id
            return True

    trainable = Able({})
    trainable.train()
    assert reseated(trainable, {"by": 2}, Seat("second", "n", None, str(tmp_path)))
    assert (trainable.seen, trainable.iteration, trainable.logdir) == ("second", 0, str(tmp_path))


def test_dictionaries_of_ones_own_classes_are_kept(tmp_path: Path) -> None:
    class Own:
        x = 5

    class Odd(Trainable):
        def save_checkpoint(self, checkpoint_dir):
            return {"own": Own()}

        def load_checkpoint(self, checkpoint):
            self.loaded = checkpoint["own"].x

    trainable = Odd()
    save_into(trainable, str(tmp_path))
    load_from(trainable, str(tmp_path))
    assert trainable.loaded == 5


def test_an_error_of_load_checkpoint_is_the_users_own(tmp_path: Path) -> None:
    calls = []

    class Odd(Trainable):
        def load_checkpoint(self, checkpoint):
            calls.append(checkpoint)
            raise FileNotFoundError("weights")

    with pytest.raises(FileNotFoundError, match="weights"):
        Odd().restore(Checkpoint(tmp_path))
    assert calls == [str(tmp_path)]


def test_who_can_save() -> None:
    assert can_save(Counter)
    assert not can_save(Trainable)
    assert issubclass(ConfigError, ValueError)
