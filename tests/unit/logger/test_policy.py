"""The logs of population based training: what a line says, and that they are exact after any crash."""

from __future__ import annotations

import json
import os

import pytest

from holdfast import values
from holdfast._core.events import SchedulerOrdered, Steering
from holdfast._core.experiment import ExperimentState
from holdfast.errors import StorageError
from holdfast.logger.policy import GLOBAL, PolicyFiles, policy_name
from holdfast.schedulers import PopulationBasedTrainingReplay
from stories import Story


class Population(Story):
    """A story with exploits."""

    def paused(self, name, saves=True):
        """A row with a checkpoint, and a pause."""
        self.row(name, save=saves)
        self.decide(name, "PAUSE")
        self.stopped(name)

    def exploit(self, name, donor, lr, tag=True):
        trial, source = self.state.trial(name), self.state.trial(donor)
        config = values.encode({"lr": lr})
        point = source.resume_point()
        index = point.saved.index if point else -1
        tag = f"{trial.tag.partition('@')[0]}@perturbed[lr={lr}]"
        self.add(SchedulerOrdered(self.state.position, [Steering(name, "change", config, config, tag, donor, index)]))


@pytest.fixture
def story():
    story = Population()
    for lr in (1.0, 2.0, 3.0):
        story.start(story.suggest({"lr": lr}))
    return story


def names(story):
    return list(story.state.trials)


def there(directory):
    return {name: (directory / name).read_text() for name in sorted(os.listdir(directory)) if name.startswith("pbt_")}


def told(story, directory, **options):
    files = PolicyFiles(str(directory), **options)
    state = ExperimentState()
    for record in story.records:
        state.fold(record)
        files.hear(record, state)
    return files


def two_generations(story):
    """The second goes on from the first; the third from the second; the first from the third."""
    one, two, three = names(story)
    for name in (one, two, three):
        story.paused(name)
    story.exploit(two, one, 1.5)
    story.start(two)
    story.paused(two)
    story.exploit(three, two, 2.5)
    story.exploit(one, three, 3.5)  # the third has not run since: the first goes on from the second's checkpoint


def test_a_line_says_who_went_on_from_whom(story, tmp_path):
    two_generations(story)
    one, two, three = names(story)
    files = told(story, tmp_path)
    files.flush()
    files.close()
    lines = [json.loads(line) for line in there(tmp_path)[GLOBAL].splitlines()]
    assert lines == [
        ["1_lr=1", "0_lr=0", 1, 1, {"lr": 1.0}, {"lr": 1.5}],
        ["2_lr=2", "1_lr=1", 1, 2, {"lr": 1.5}, {"lr": 2.5}],
        ["0_lr=0", "2_lr=2", 1, 2, {"lr": 2.5}, {"lr": 3.5}],
    ]
    logs = there(tmp_path)
    assert [json.loads(line) for line in logs[policy_name(two)].splitlines()] == lines[:1]
    assert [json.loads(line) for line in logs[policy_name(three)].splitlines()] == lines[:2]
    assert [json.loads(line) for line in logs[policy_name(one)].splitlines()] == lines
    replay = PopulationBasedTrainingReplay(str(tmp_path / policy_name(one)))
    assert replay.config == {"lr": 1.0}
    assert replay.debug_string().endswith("0 of 3")


def test_whatever_is_there_a_new_driver_writes_what_is_on_record(story, tmp_path):
    two_generations(story)
    files = told(story, tmp_path)
    files.flush()
    wanted = there(tmp_path)
    one, two, _ = names(story)
    (tmp_path / GLOBAL).write_text("a line that a power cut has taken from the journal\n")
    (tmp_path / policy_name(two)).unlink()
    (tmp_path / policy_name(one)).write_text("torn")
    (tmp_path / policy_name("abcde_00099")).write_text("of a trial that never was\n")
    (tmp_path / f".{GLOBAL}.0000.aside").write_text("left by a kill")
    again = told(story, tmp_path)
    again.catch_up()
    assert there(tmp_path) == wanted
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".aside")]
    files.catch_up()  # the old driver wakes up, and is not in charge of what it has open
    files.close()
    assert there(tmp_path) == wanted


def test_lines_come_one_by_one_and_a_fenced_driver_writes_none(story, tmp_path):
    one, two, three = names(story)
    for name in (one, two, three):
        story.paused(name)
    in_charge = True
    files = told(story, tmp_path, in_charge=lambda: in_charge)
    files.catch_up()
    assert there(tmp_path) == {}
    for name, lr in ((two, 5.0), (three, 6.0)):
        story.exploit(name, one, lr)
        files.hear(story.records[-1], story.state)
        files.flush()
    assert len(there(tmp_path)[GLOBAL].splitlines()) == 2
    in_charge = False
    story.exploit(two, one, 7.0)
    files.hear(story.records[-1], story.state)
    files.flush()
    assert len(there(tmp_path)[GLOBAL].splitlines()) == 2
    in_charge = True
    files.flush()
    files.close()
    assert len(there(tmp_path)[GLOBAL].splitlines()) == 3


def test_without_an_exploit_nothing_is_there(story, tmp_path):
    (tmp_path / GLOBAL).write_text("of an older life\n")
    files = told(story, tmp_path)
    files.catch_up()
    files.flush()
    files.close()
    assert there(tmp_path) == {}
    told(story, tmp_path / "nowhere").catch_up()


def test_a_change_without_a_donor_and_one_that_came_too_late_are_no_exploits(story, tmp_path):
    one, two, _ = names(story)
    story.paused(one)
    config = values.encode({"lr": 9.0})
    story.add(SchedulerOrdered(0, [Steering(one, "change", config, config), Steering(one, "change", config, config, "", one)]))
    story.complete(two)
    story.exploit(two, one, 5.0)
    files = told(story, tmp_path)
    assert files.lines() == []


def test_a_restarted_trial_goes_on_from_nobody(story, tmp_path):
    two_generations(story)
    one, two, _ = names(story)
    files = told(story, tmp_path)
    files.flush()
    story.epoch(unfinished="restart")
    files.hear(story.records[-1], story.state)
    files.flush()
    assert list(there(tmp_path)) == [GLOBAL]
    assert len(files.lines()) == 3
    story.start(one)
    story.paused(one)
    story.exploit(two, one, 8.0)
    files.hear(story.records[-1], story.state)
    assert len(files.lines(two)) == 1


def test_a_disk_that_refuses_is_an_error_that_says_so(story, tmp_path):
    two_generations(story)
    (tmp_path / policy_name(names(story)[1])).mkdir()
    with pytest.raises(StorageError, match="policy log"):
        told(story, tmp_path).flush()
