from __future__ import annotations

import functools
import os
import sys
import types
from pathlib import Path

import pytest

from holdfast._assembly.submission import JobSpec, drafted, give_birth, pickled, submit, trainable_name, versions
from holdfast._core.events import ExperimentCreated
from holdfast._journal import read
from holdfast.config import CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from holdfast.errors import ExperimentExists, NotSerializable
from holdfast.space import choice, grid_search, uniform
from holdfast.storage.definitions import Definitions
from holdfast.storage.local import LocalStorage
from holdfast.testing.disk import SimulatedStorage
from holdfast.trainable import Trainable as ClassTrainable


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


def test_what_a_failure_costs_becomes_the_policy() -> None:
    costs = {"max_failures": 5, "max_preemptions": -1, "max_oom": 1, "max_timeouts": 2, "retry_delay_s": 3.0}
    times = {"trial_timeout_s": 60.0, "no_progress_timeout_s": 7.0, "stop_after_failures": 0.5}
    policy = draft({}, run=RunConfig(name="exp", failure_config=FailureConfig(**costs, **times))).created.policy
    assert {name: getattr(policy, name) for name in (*costs, *times)} == {**costs, **times}
    policy = draft({}, run=RunConfig(name="exp")).created.policy
    assert (policy.max_preemptions, policy.max_oom, policy.max_timeouts, policy.retry_delay_s) == (None, None, None, 0.0)
    assert (policy.trial_timeout_s, policy.no_progress_timeout_s, policy.stop_after_failures) == (0.0, 0.0, 0.0)


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


class Saving(ClassTrainable):
    def step(self):
        return {"score": 1}

    def save_checkpoint(self, checkpoint_dir):
        return {}


class Light(ClassTrainable):
    def step(self):
        return {"score": 1}


@pytest.mark.parametrize(
    ("trainable", "at_end", "owes"), [(Saving, None, True), (Saving, False, False), (Saving, True, True), (Light, None, False)]
)
def test_a_class_saves_its_last_row_unless_told_otherwise(trainable, at_end: bool | None, owes: bool) -> None:
    run = RunConfig(name="exp", checkpoint_config=CheckpointConfig(checkpoint_at_end=at_end))
    created = drafted(trainable, {}, TuneConfig(), run).created
    assert (created.policy.end_checkpoint, created.policy.cleans_up) == (owes, True)
    assert created.trainable_name == trainable.__name__
    assert not draft().created.policy.cleans_up


@pytest.mark.parametrize("asked", [{"checkpoint_frequency": 2}, {"checkpoint_at_end": True}])
@pytest.mark.parametrize(("trainable", "why"), [(train, "for class trainables"), (Light, "has no save_checkpoint")])
def test_checkpoints_that_nobody_can_make_are_refused(trainable, why: str, asked: dict) -> None:
    with pytest.raises(ValueError, match=why):
        drafted(trainable, {}, TuneConfig(), RunConfig(name="exp", checkpoint_config=CheckpointConfig(**asked)))


def test_a_class_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="does not derive from holdfast"):
        trainable_name(Trainable)


def test_a_seeded_searcher_seeds_the_whole_experiment() -> None:
    import optuna

    from holdfast.search import BasicVariantGenerator, ConcurrencyLimiter
    from holdfast.search.optuna import OptunaSearch

    def seed_of(search_alg, **tune):
        job = TuneConfig(search_alg=search_alg, metric="loss", mode="min", **tune)
        return drafted(train, {"x": uniform(0, 1)}, job, RunConfig(name="exp")).created.seed

    assert seed_of(BasicVariantGenerator(random_state=7)) == 7
    assert seed_of(BasicVariantGenerator(random_state=7), seed=8) == 8
    assert seed_of(BasicVariantGenerator()) != seed_of(BasicVariantGenerator())
    assert seed_of(OptunaSearch(seed=7)) == 7
    assert seed_of(ConcurrencyLimiter(OptunaSearch(seed=7), 2)) == 7
    seeded, other = (OptunaSearch(sampler=optuna.samplers.TPESampler(seed=number)) for number in (7, 8))
    again = OptunaSearch(sampler=optuna.samplers.TPESampler(seed=7))
    assert seed_of(seeded) == seed_of(again) != seed_of(other)
    assert seed_of(OptunaSearch(sampler=optuna.samplers.TPESampler())) != seed_of(OptunaSearch())
