from __future__ import annotations

import pytest

from holdfast._assembly.naming import namer
from holdfast.config import TuneConfig
from holdfast.errors import ConfigError
from holdfast.storage.definitions import Definitions
from holdfast.testing.disk import SimulatedStorage
from stories import Story


def named(story: Story | None = None, index: int = 0, config: dict | None = None, **tune):
    story = story or Story()
    name = namer(story.state.created, story.state, TuneConfig(**tune), "/exp", Definitions(SimulatedStorage()))
    config = {"lr": 0.5} if config is None else config
    return name(index, f"abcde_{index:05d}", config, config)


def test_without_creators_names_are_ray_tunes() -> None:
    names = named()
    assert (names.tag, names.name) == ("0_lr=0.5000", "train_abcde_00000")
    assert names.dirname.startswith("train_abcde_00000_0_lr=0.5000_2")


def test_a_creator_sees_the_trial_as_it_will_be() -> None:
    seen = {}

    def create(trial) -> str:
        seen.update(id=trial.trial_id, tag=trial.experiment_tag, config=trial.config, open=trial.evaluated_params)
        seen.update(status=trial.status, last=trial.last_result, path=trial.path, text=str(trial))
        return "called"

    names = named(trial_name_creator=create, trial_dirname_creator=lambda trial: f"{trial}-x")
    assert (names.name, names.dirname) == ("called", "called-x")
    assert seen["path"].startswith("/exp/train_abcde_00000_0")
    assert (seen["id"], seen["tag"], seen["config"], seen["open"]) == ("abcde_00000", "0_lr=0.5000", {"lr": 0.5}, {"lr": 0.5})
    assert (seen["status"], seen["last"], seen["text"]) == ("PENDING", {}, "train_abcde_00000")


@pytest.mark.parametrize("taken", ["journal", "definitions", "logs", "requests"])
def test_the_experiments_own_directories_are_no_trials(taken: str) -> None:
    assert named(trial_dirname_creator=lambda trial: taken).dirname == f"{taken}_1"


def test_equal_names_get_a_suffix() -> None:
    story = Story()
    first = story.suggest()
    dirname = story.state.trial(first).dirname
    assert named(story, 1, trial_dirname_creator=lambda trial: dirname).dirname == f"{dirname}_1"


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "/a", "a\0b", "é" * 128])
def test_what_is_no_directorys_name_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match="trial_dirname_creator gave"):
        named(trial_dirname_creator=lambda trial: bad)
