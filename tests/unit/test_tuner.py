"""What a user is told: each wrong thing by the right class, in words that help, and with nothing damaged."""

from __future__ import annotations

import math
import os
import threading
import zlib
from pathlib import Path

import pytest

import holdfast as tune
from holdfast.engines.simulated import SimulatedEngine
from holdfast.errors import (
    ConfigError,
    ExperimentExists,
    ExperimentNotFound,
    JobChanged,
    JournalTooNew,
    MetricMissing,
    NotFitted,
    NotSerializable,
    SearchSpaceError,
    StorageError,
    TuneError,
)
from holdfast.schedulers import ASHAScheduler
from holdfast.search import Searcher


def train(config):
    for i in range(2):
        yield {"score": config.get("x", 1) * (i + 1)}


def other(config):
    yield {"score": 1}


def tuner(path, trainable=train, space=None, *, name="exp", tune_config=None, **run) -> tune.Tuner:
    run_config = tune.RunConfig(name=name, storage_path=path, verbose=0, engine=SimulatedEngine(workers=2), **run)
    return tune.Tuner(trainable, param_space=space, tune_config=tune_config, run_config=run_config)


def restore(path, trainable=train, **options) -> tune.Tuner:
    return tune.Tuner.restore(path, trainable, engine=SimulatedEngine(workers=2), **options)


def tree(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*"))


class Unpicklable:
    """Something with a lock inside."""

    def __init__(self) -> None:
        self.guard = threading.Lock()


class LockedCallback(tune.Callback, Unpicklable):
    """A callback with a lock inside."""


class LockedScheduler(ASHAScheduler):
    def __init__(self) -> None:
        super().__init__()
        self.guard = threading.Lock()


class TestRefusedWithNothingWritten:
    @pytest.mark.parametrize(
        ("trainable", "space", "kind", "words"),
        [
            (train, ["x"], ConfigError, "must be a dictionary, not list"),
            (train, {"x": {"grid_search": []}}, SearchSpaceError, "x"),
            (train, {"x": {"grid_serach": [1, 2]}}, SearchSpaceError, "grid_serach"),
            (None, {}, ConfigError, "needs a trainable"),
            (3, {}, ConfigError, "give a function"),
            ("PPO", {}, ConfigError, "No trainable is registered as 'PPO'.*register_trainable"),
            (LockedCallback, {}, ConfigError, "does not derive from holdfast.Trainable"),
        ],
    )
    def test_trainable_and_space(self, tmp_path: Path, trainable, space, kind, words: str) -> None:
        with pytest.raises(kind, match=words) as caught:
            tuner(tmp_path / "results", trainable, space)
        assert isinstance(caught.value, ValueError)
        assert tree(tmp_path) == []

    @pytest.mark.parametrize(
        ("tune_config", "run", "words"),
        [
            ({"scheduler": 7}, {}, r"scheduler=.*7.*TrialScheduler"),
            ({"scheduler": "sha"}, {}, r"no scheduler 'sha'. There are: asha,"),
            ({"search_alg": 7}, {}, r"search_alg=.*7.*Searcher"),
            ({"search_alg": "magic"}, {}, r"no searcher 'magic'. There are: .*random"),
            ({}, {"stop": 7}, "stop=7"),
            ({}, {"stop": [lambda trial_id, result: True]}, "list of them"),
            ({}, {"stop": {"score": "high"}}, "each bound is a number"),
            ({}, {"checkpoint_config": tune.CheckpointConfig(checkpoint_frequency=2)}, "class trainables"),
            ({}, {"checkpoint_config": tune.CheckpointConfig(checkpoint_at_end=True)}, "class trainables"),
            ({}, {"callbacks": [tune.Callback(), print]}, "number 1 is .*print.*Callback"),
            ({}, {"callbacks": [tune.Callback]}, "number 0 is .*give instances"),
            ({}, {"name": "a/b"}, "no '/'"),
            ({}, {"name": ".."}, "not '.' or '..'"),
            ({}, {"name": "x" * 300}, "255 bytes"),
        ],
    )
    def test_configs(self, tmp_path: Path, tune_config, run, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            tuner(tmp_path / "results", tune_config=tune.TuneConfig(**tune_config), **{"name": "exp", **run})
        assert tree(tmp_path) == []

    @pytest.mark.parametrize("arguments", [{"tune_config": {"num_samples": 2}}, {"run_config": tune.TuneConfig()}])
    def test_configs_of_another_kind(self, arguments) -> None:
        with pytest.raises(ConfigError, match=r"where a (Tune|Run)Config belongs"):
            tune.Tuner(train, **arguments)

    @pytest.mark.parametrize(
        ("space", "tune_config", "run", "words"),
        [
            ({"model": {"guard": Unpicklable()}}, {}, {}, r"param_space\['model/guard'\].*attribute 'guard'"),
            ({"x": tune.choice([1, threading.Lock()])}, {}, {}, r"param_space\['x'\]"),
            ({}, {"scheduler": LockedScheduler()}, {}, r"TuneConfig.scheduler.*attribute 'guard'"),
            ({}, {}, {"callbacks": [tune.Callback(), LockedCallback()]}, r"callbacks\[1\] \(LockedCallback\)"),
        ],
    )
    def test_what_cannot_be_pickled_is_named(self, tmp_path: Path, space, tune_config, run, words: str) -> None:
        with pytest.raises(NotSerializable, match=words) as caught:
            tuner(tmp_path / "results", train, space, tune_config=tune.TuneConfig(**tune_config), **run)
        assert isinstance(caught.value, TypeError)
        assert "non-serializable" in str(caught.value)
        assert tree(tmp_path) == []

    def test_the_variable_that_spoils_a_trainable_is_named(self, tmp_path: Path) -> None:
        guard = threading.Lock()

        def locked(config):
            with guard:
                yield {"score": 1}

        with pytest.raises(NotSerializable, match="the variable 'guard'"):
            tuner(tmp_path / "results", locked)
        assert tree(tmp_path) == []


class TestPlaces:
    def test_a_path_that_cannot_be_written_to(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("no directory")
        with pytest.raises(StorageError, match="Give a storage_path that can be written to") as caught:
            tuner(tmp_path / "file" / "results")
        assert isinstance(caught.value, OSError)
        assert tree(tmp_path) == ["file"]

    def test_a_directory_with_foreign_files(self, tmp_path: Path) -> None:
        (tmp_path / "exp").mkdir()
        (tmp_path / "exp" / "thesis.tex").write_text("years of work")
        with pytest.raises(ExperimentExists, match=r"thesis.tex"):
            tuner(tmp_path)
        assert tree(tmp_path) == ["exp", "exp/thesis.tex"]

    def test_a_remote_path(self) -> None:
        with pytest.raises(ConfigError, match="no place"):
            tuner("hdfs://host/results")

    @pytest.mark.parametrize("form", [str, Path, lambda path: f"file://{path}", os.path.relpath])
    def test_the_forms_of_a_path(self, tmp_path: Path, form) -> None:
        tuner(form(tmp_path))
        assert tune.Tuner.can_restore(form(tmp_path / "exp"))
        assert restore(form(tmp_path / "exp")).get_results().experiment_path == str(tmp_path / "exp")

    def test_home_is_understood(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        tuner("~/results")
        assert tune.Tuner.can_restore(tmp_path / "results" / "exp")

    def test_a_path_that_holds_no_experiment(self, tmp_path: Path) -> None:
        tuner(tmp_path)
        for wrong in (tmp_path / "nowhere", tmp_path, tmp_path / "exp" / "journal"):
            assert not tune.Tuner.can_restore(wrong)
            with pytest.raises(ExperimentNotFound) as caught:
                restore(wrong)
            assert isinstance(caught.value, FileNotFoundError)
            assert isinstance(caught.value, ValueError)
        with pytest.raises(ExperimentNotFound, match=r"There are experiments below it: \['exp'\]"):
            restore(tmp_path)

    def test_an_experiment_of_a_newer_version(self, tmp_path: Path) -> None:
        tuner(tmp_path)
        birth = tmp_path / "exp" / "journal" / "birth"
        data = bytearray(birth.read_bytes())
        assert data[:8] == b"HOLDFAST"
        data[8] += 1  # the version; the header's checksum stands at its end
        size = int.from_bytes(data[10:12], "little")
        data[size - 4 : size] = zlib.crc32(data[: size - 4]).to_bytes(4, "little")
        birth.write_bytes(data)
        before = tree(tmp_path)
        with pytest.raises(JournalTooNew, match="newer"):
            restore(tmp_path / "exp")
        assert tree(tmp_path) == before

    def test_a_trainables_odd_name_stays_inside(self, tmp_path: Path) -> None:
        def odd(config):
            yield {"score": 1}

        odd._name = "../up/x"
        made = tuner(tmp_path / "results", odd, name=None)
        assert os.path.dirname(made.fit().experiment_path) == str(tmp_path / "results")
        assert tree(tmp_path)[0] == "results"


class TestJobs:
    def test_another_trainable(self, tmp_path: Path) -> None:
        tuner(tmp_path)
        with pytest.raises(JobChanged, match=r"'train'.*'other'") as caught:
            restore(tmp_path / "exp", other)
        assert isinstance(caught.value, ValueError)

    @pytest.mark.parametrize(
        ("space", "words"),
        [
            ({"x": tune.uniform(0, 1)}, r"missing \['deep/n'"),
            ({"x": tune.uniform(0, 1), "deep": {"n": 1}, "z": 3, "f": 1}, r"added \['z'\]"),
            ({"x": tune.uniform(0, 2), "deep": {"n": 1}, "f": 1}, "x: .*became"),
            ({"x": tune.uniform(0, 1), "deep": {"n": 2}, "f": 1}, "deep/n: 1 became 2"),
            ([], "must be a dictionary"),
        ],
    )
    def test_another_space_names_the_difference(self, tmp_path: Path, space, words: str) -> None:
        tuner(tmp_path, space={"x": tune.uniform(0, 1), "deep": {"n": 1}, "f": tune.sample_from(lambda config: config["x"])})
        if isinstance(space, dict) and "f" in space:
            space = {**space, "f": tune.sample_from(lambda config: config["x"])}
        with pytest.raises(ConfigError, match=words):
            restore(tmp_path / "exp", param_space=space)

    def test_the_same_space_with_other_objects_is_taken(self, tmp_path: Path) -> None:
        def space():
            return {"x": tune.uniform(0, 1), "f": tune.sample_from(lambda config: config["x"]), "where": Path("x"), "o": object()}

        tuner(tmp_path, space=space())
        [result] = restore(tmp_path / "exp", param_space=space()).fit()
        assert result.config["f"] == result.config["x"]

    def test_flags_that_exclude_each_other(self, tmp_path: Path) -> None:
        tuner(tmp_path)
        with pytest.raises(ConfigError, match="exclude each other"):
            restore(tmp_path / "exp", resume_errored=True, restart_errored=True)

    def test_restore_belongs_to_the_class(self, tmp_path: Path) -> None:
        with pytest.raises(AttributeError, match=r"Tuner.restore\(path, trainable\)") as caught:
            _ = tuner(tmp_path).restore
        assert isinstance(caught.value, TuneError)

    def test_an_engine_of_no_name(self, tmp_path: Path) -> None:
        made = tune.Tuner(train, run_config=tune.RunConfig(name="exp", storage_path=tmp_path, verbose=0, engine="cloud"))
        with pytest.raises(ConfigError, match="no engine 'cloud'"):
            made.fit()
        assert len(restore(tmp_path / "exp").fit()) == 1

    def test_metric_and_mode_given_twice(self, tmp_path: Path) -> None:
        config = tune.TuneConfig(metric="score", mode="max", scheduler=ASHAScheduler(metric="score", mode="max"))
        with pytest.raises(ConfigError, match="both in TuneConfig and in"):
            tuner(tmp_path, tune_config=config).fit()

    def test_a_searcher_with_another_metric(self, tmp_path: Path) -> None:
        config = tune.TuneConfig(metric="score", mode="max", search_alg=Mute(metric="loss", mode="min"))
        with pytest.raises(ConfigError, match="both in TuneConfig and in Mute"):
            tuner(tmp_path, tune_config=config).fit()

    def test_a_searcher_that_takes_no_space(self, tmp_path: Path) -> None:
        config = tune.TuneConfig(metric="score", mode="max", search_alg=Mute())
        with pytest.raises(ConfigError, match="leaves 'x' open, and Mute has a space already, or takes none"):
            tuner(tmp_path, space={"x": tune.uniform(0, 1)}, tune_config=config).fit()

    def test_a_machine_too_small(self, tmp_path: Path) -> None:
        config = tune.RunConfig(name="exp", storage_path=tmp_path, verbose=0, engine=SimulatedEngine(workers=0))
        with pytest.raises(ConfigError, match="it could never run"):
            tune.Tuner(train, run_config=config).fit()


class TestNamesTaken:
    def test_nothing_is_mixed_into_an_experiment_that_ran(self, tmp_path: Path) -> None:
        first = tuner(tmp_path).fit()
        before = tree(tmp_path)
        with pytest.raises(ExperimentExists, match=r"Tuner.restore\(.*another name.*holdfast rm"):
            tuner(tmp_path).fit()
        assert tree(tmp_path) == before
        assert restore(tmp_path / "exp").get_results()[0].metrics == first[0].metrics

    def test_one_that_never_ran_makes_room_in_its_own_process(self, tmp_path: Path) -> None:
        tuner(tmp_path, other)
        assert tuner(tmp_path).fit()[0].metrics["score"] == 2

    def test_only_the_newest_of_two_tuners_of_one_name_runs(self, tmp_path: Path) -> None:
        first = tuner(tmp_path, other)
        second = tuner(tmp_path)
        with pytest.raises(ExperimentExists, match="after this one"):
            first.fit()
        assert second.fit()[0].metrics["score"] == 2


class TestResults:
    def test_before_fit(self, tmp_path: Path) -> None:
        with pytest.raises(NotFitted, match="call fit") as caught:
            tuner(tmp_path).get_results()
        assert isinstance(caught.value, RuntimeError)

    def test_the_best_of_several_needs_a_metric_and_a_mode(self, tmp_path: Path) -> None:
        grid = tuner(tmp_path, space={"x": tune.grid_search([1, 3, 2])}).fit()
        with pytest.raises(ConfigError, match="No metric is given"):
            grid.get_best_result()
        with pytest.raises(ConfigError, match="No mode is given"):
            grid.get_best_result("score")
        with pytest.raises(ConfigError, match="'max' or 'min'"):
            grid.get_best_result("score", "best")
        with pytest.raises(ConfigError, match="last-5-avg"):
            grid.get_best_result("score", "max", scope="median")
        with pytest.raises(NotFitted, match="No best trial found for the metric 'loss'") as caught:
            grid.get_best_result("loss", "max")
        assert isinstance(caught.value, RuntimeError)
        assert grid.get_best_result("score", "max").config == {"x": 3}

    def test_nan_and_infinity_are_taken_and_never_win(self, tmp_path: Path) -> None:
        space = {"x": tune.grid_search([1.0, math.inf, -math.inf, math.nan])}
        config = tune.TuneConfig(metric="score", mode="max", scheduler=ASHAScheduler(max_t=2))
        grid = tuner(tmp_path, space=space, tune_config=config).fit()
        assert math.isnan(grid[3].metrics["score"])
        assert grid.get_best_result().config == {"x": 1.0}
        assert grid.get_best_result(mode="min").config == {"x": 1.0}
        assert grid.get_best_result(filter_nan_and_inf=False).config == {"x": math.inf}

    def test_of_nothing_but_nan_there_is_no_best(self, tmp_path: Path) -> None:
        grid = tuner(tmp_path, space={"x": tune.grid_search([math.nan, math.nan])}).fit()
        with pytest.raises(NotFitted, match="filter_nan_and_inf=False"):
            grid.get_best_result("score", "max")


class Mute(Searcher):
    """Answers with something that is no configuration."""

    def suggest(self, trial_id):
        return 17

    def on_trial_complete(self, trial_id, result=None, error=False):
        pass


class TestWhileRunning:
    def test_a_metric_that_is_never_reported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = tune.TuneConfig(metric="loss", mode="min")
        with pytest.raises(MetricMissing, match=r"'loss'; the row has \['score'\]") as caught:
            tuner(tmp_path, tune_config=config).fit()
        assert isinstance(caught.value, ValueError)
        with pytest.raises(MetricMissing):
            restore(tmp_path / "exp").fit()
        monkeypatch.setenv("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
        assert restore(tmp_path / "exp").fit()[0].metrics["score"] == 2

    @pytest.mark.parametrize("bad", ["a/b", "..", ".", "", "x" * 300])
    def test_a_directory_name_that_cannot_be(self, tmp_path: Path, bad: str) -> None:
        config = tune.TuneConfig(trial_dirname_creator=lambda trial: bad)
        with pytest.raises(ConfigError, match="trial_dirname_creator"):
            tuner(tmp_path, tune_config=config).fit()

    def test_directory_names_that_are_ours_or_taken_get_a_suffix(self, tmp_path: Path) -> None:
        names = {1: "journal", 2: "same", 3: "same"}
        config = tune.TuneConfig(trial_dirname_creator=lambda trial: names[trial.config["x"]])
        grid = tuner(tmp_path, space={"x": tune.grid_search([1, 2, 3])}, tune_config=config).fit()
        assert [os.path.basename(result.path) for result in grid] == ["journal_1", "same", "same_1"]

    def test_a_searcher_that_answers_with_no_configuration(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"Mute.suggest answered 17"):
            tuner(tmp_path, tune_config=tune.TuneConfig(search_alg=Mute())).fit()

    def test_a_scheduler_that_answers_nonsense(self, tmp_path: Path) -> None:
        class Nonsense(ASHAScheduler):
            def on_trial_result(self, tune_controller, trial, result):
                return "MAYBE"

        with pytest.raises(ConfigError, match=r"Nonsense.on_trial_result answered 'MAYBE'"):
            tuner(tmp_path, tune_config=tune.TuneConfig(metric="score", mode="max", scheduler=Nonsense())).fit()
