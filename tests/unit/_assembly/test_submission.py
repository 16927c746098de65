from __future__ import annotations

import functools
import os
import sys
import types
from pathlib import Path

import pytest

from holdfast._assembly.submission import JobSpec, drafted, give_birth, pickled, same_job, submit, trainable_name, versions
from holdfast._core.events import ExperimentCreated
from holdfast._journal import read
from holdfast.config import CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from holdfast.errors import ConfigError, ExperimentExists, JobChanged, NotSerializable
from holdfast.space import choice, grid_search, uniform
from holdfast.storage.definitions import Definitions
from holdfast.storage.local import LocalStorage
from holdfast.testing.disk import SimulatedStorage


def train(config):
    yield {"score": 1}


def draft(space=None, tune: TuneConfig | None = None, run: RunConfig | None = None):
    return drafted(train, space or {}, tune or TuneConfig(), run or RunConfig(name="exp"))


class Trainable:
    def __call__(self, config):
        return 1


@pytest.mark.parametrize(
    ("trainable", "name"),
    [
        (train, "train"),
        (lambda config: 1, "lambda"),
        (functools.partial(train, x=1), "train"),
        (Trainable(), "Trainable"),
    ],
)
def test_what_a_trainable_is_called(trainable, name: str) -> None:
    assert trainable_name(trainable) == name


@pytest.mark.parametrize(
    ("given", "name"), [("mine", "mine"), ("a/b", "a_b"), ("../x", "_x"), (".", "trainable"), ("x" * 300, "x" * 100)]
)
def test_a_name_of_ones_own_is_always_that_of_a_directory(given: str, name: str) -> None:
    def own(config):
        return 1

    own._name = given
    assert trainable_name(own) == name


def test_the_jobs_numbers_become_the_policy() -> None:
    tune = TuneConfig(
        num_samples=3, metric="a", mode="min", max_concurrent_trials=4, time_budget_s=60, reuse_actors=True, seed=11
    )
    keep = CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="a/b", checkpoint_score_order="min")
    run = RunConfig(name="exp", failure_config=FailureConfig(max_failures=5), checkpoint_config=keep)
    created = draft({"x": grid_search([1, 2]), "y": uniform(0, 1)}, tune, run).created
    policy = created.policy
    assert (policy.num_samples, policy.metric, policy.mode, policy.max_concurrent) == (6, "a", "min", 4)
    assert (policy.time_budget_s, policy.reuse_workers, policy.max_failures) == (60.0, True, 5)
    assert (policy.num_to_keep, policy.score_attribute, policy.score_order) == (2, "a/b", "min")
    assert (created.seed, created.space_keys, created.trial_prefix) == (11, ["x", "y"], created.experiment_id[:5])


def test_fail_fast_of_either_kind_and_samples_without_end() -> None:
    run = RunConfig(name="exp", failure_config=FailureConfig(fail_fast="raise"))
    policy = draft({}, TuneConfig(num_samples=-1), run).created.policy
    assert (policy.fail_fast, policy.num_samples) == (True, -1)


def test_a_birth_holds_all_that_a_restore_needs() -> None:
    disk = SimulatedStorage()
    born = give_birth(disk, draft({"x": choice([Trainable])}))
    assert born is not None
    [record] = read(disk)
    assert record.event == born
    assert isinstance(record.event, ExperimentCreated)
    definitions = Definitions(disk)
    job = definitions.fresh(born.definitions["job"])
    assert isinstance(job, JobSpec)
    assert job.param_space["x"].categories == [Trainable]
    assert definitions.fresh(born.definitions["trainable"]) is train
    assert give_birth(disk, draft()) is None


def test_the_engine_is_no_part_of_the_job() -> None:
    import threading

    class Engine:
        guard = threading.Lock()

        def __init__(self) -> None:
            self.own = threading.Lock()

    run = RunConfig(name="exp", engine=Engine())
    assert draft(run=run).spec.run_config.engine is run.engine


def test_submit_writes_into_a_directory_of_its_own(tmp_path: Path) -> None:
    run = RunConfig(name="exp", storage_path=tmp_path)
    submitted = submit(train, {}, TuneConfig(), run)
    assert (submitted.path, submitted.taken, submitted.created.name) == (str(tmp_path / "exp"), False, "exp")
    unnamed = submit(train, {}, TuneConfig(), RunConfig(storage_path=tmp_path))
    assert os.path.basename(unnamed.path) == unnamed.created.name


def test_an_empty_directory_is_fine_and_one_with_definitions_of_a_killed_submission_too(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path / "exp"))
    for blob in draft().blobs.values():
        Definitions(storage).store(blob)
    assert not submit(train, {}, TuneConfig(), RunConfig(name="exp", storage_path=tmp_path)).taken


def test_a_journal_without_a_birth_is_never_taken_for_a_free_place(tmp_path: Path) -> None:
    submit(train, {}, TuneConfig(), RunConfig(name="exp", storage_path=tmp_path))
    (tmp_path / "exp" / "journal" / "birth").rename(tmp_path / "exp" / "journal" / "lost")
    with pytest.raises(ExperimentExists):
        submit(train, {}, TuneConfig(), RunConfig(name="exp", storage_path=tmp_path))


class TestSameJob:
    def born(self, space):
        disk = SimulatedStorage()
        made = draft(space)
        assert give_birth(disk, made)
        return made.spec, made.created

    def test_objects_take_the_places_of_the_stored_ones(self) -> None:
        spec, created = self.born({"data": object(), "x": uniform(0, 1), "deep": {"n": 1}})
        fresh = object()
        again = same_job({"data": fresh, "x": uniform(0, 1), "deep": {"n": 1}}, spec, created)
        assert again.param_space["data"] is fresh

    @pytest.mark.parametrize(
        ("before", "after", "words"),
        [
            ({"x": 1}, {"x": 1.0}, "x: 1 became 1.0"),
            ({"x": (1, 2)}, {"x": [1, 2]}, "became"),
            ({"x": uniform(0, 1)}, {"x": 0.5}, "became 0.5"),
            ({"x": uniform(0, 1)}, {"x": uniform(0, 1).quantized(0.1)}, "became"),
            ({"x": grid_search([1, 2])}, {"x": grid_search([1, 2, 3])}, "became"),
            ({"x": choice(["a"])}, {"x": choice(["b"])}, "became"),
            ({"x": {"y": 1}}, {"x": 1}, r"added \['x'\], missing \['x/y'\]"),
        ],
    )
    def test_a_difference_is_named(self, before, after, words: str) -> None:
        spec, created = self.born(before)
        with pytest.raises(JobChanged, match=words):
            same_job(after, spec, created)

    def test_no_dictionary(self) -> None:
        spec, created = self.born({"x": 1})
        with pytest.raises(ConfigError, match="must be a dictionary, not int"):
            same_job(3, spec, created)


def test_what_has_no_pickle_is_refused_by_name_with_its_own_error_inside() -> None:
    with pytest.raises(NotSerializable, match="the thing is non-serializable") as caught:
        pickled("the thing", (each for each in ()))
    assert isinstance(caught.value.__cause__, TypeError)


def test_versions_are_those_of_what_is_loaded() -> None:
    found = versions()
    assert {"python", "platform", "holdfast"} <= set(found)
    assert all(isinstance(version, str) for version in found.values())


def test_a_version_of_a_class_of_its_own_goes_on_record_as_text(monkeypatch, tmp_path):
    """As torch's does."""

    class Version(str):
        __slots__ = ()

    torch = types.ModuleType("torch")
    torch.__version__ = Version("2.13.0")
    monkeypatch.setitem(sys.modules, "torch", torch)
    found = versions()
    assert type(found["torch"]) is str
    assert found["torch"] == "2.13.0"
