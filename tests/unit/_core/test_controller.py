"""The controller: which orders follow from which record."""

from __future__ import annotations

import msgspec
import pytest

from holdfast._core.commands import (
    AskSearcher,
    Command,
    CommitCheckpoint,
    Decide,
    DeleteCheckpoint,
    DropCheckpoint,
    EndEpoch,
    KillAttempt,
    Reply,
    StartAttempt,
    WakeAt,
)
from holdfast._core.controller import Controller
from holdfast._core.events import (
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    CheckpointCommitted,
    CheckpointDeleted,
    CheckpointDropped,
    CheckpointLost,
    DecisionMade,
    EpochEnded,
    EpochStarted,
    Event,
    ExperimentCreated,
    Failure,
    InexactFound,
    NothingSuggested,
    Record,
    ResourcesChanged,
    ResultReported,
    Saved,
    TrialSuggested,
    Woke,
)
from holdfast._core.ids import trial_id
from holdfast._core.policy import Policy, Resume
from stories import EXPERIMENT_ID


class Play:
    """Hands a controller one record after another and keeps what it orders."""

    def __init__(self, cpus: float = 2.0, **policy) -> None:
        self.controller = Controller()
        self.records: list[Record] = []
        self.cpus = cpus
        self.born = self.add(ExperimentCreated(EXPERIMENT_ID, "e", "train", "abcde", 7, Policy(**policy), {}, [], {}, ""))

    @property
    def state(self):
        return self.controller.state

    def add(self, event: Event) -> list[Command]:
        epoch = self.state.epoch.epoch if self.state.epoch else 0
        epoch = event.epoch if isinstance(event, EpochStarted) else epoch
        record = Record(len(self.records), epoch, float(len(self.records)), 0.0, event)
        self.records.append(record)
        return self.controller.handle(record)

    def epoch(self, **resume) -> list[Command]:
        number = self.state.epoch.epoch + 1 if self.state.epoch else 1
        return self.add(EpochStarted(number, {"cpu": self.cpus}, Resume(**resume), "simulated", "h", 1, "b", 1, {}, {}))

    def suggest(self, order: str = "", resources: dict[str, float] | None = None) -> list[Command]:
        index = len(self.state.trials)
        name = trial_id("abcde", index)
        return self.add(
            TrialSuggested(order or self.controller.asking, 0, name, b"\x80", b"\x80", str(index), f"dir{index}", name, resources)
        )

    def begin(self, index: int = 0) -> list[Command]:
        order = self.start_of(index)
        return self.add(AttemptStarted(order.order, order.trial_id, order.attempt, "h", "i", 1))

    def start_of(self, index: int) -> StartAttempt:
        """The open order to run a trial."""
        order = self.controller.open_orders[self.controller.running[trial_id("abcde", index)]]
        assert isinstance(order, StartAttempt)
        return order

    def row(
        self, index: int = 0, *, save: bool = False, stage: bool = False, score: float | None = None, size: int = 1
    ) -> list[Command]:
        trial = self.state.at(index)
        number = trial.number + 1
        saved = Saved(trial.next_index, 1, size, "")
        more = {"saved": saved if save else None, "score": score, "pending": saved if stage else None}
        return self.add(
            ResultReported(trial.trial_id, trial.attempt, number, b"\x80", number, 0.0, 0.0, 0.0, number, 0.0, **more)
        )

    def commit(self, index: int = 0, order: str = "") -> list[Command]:
        """The oldest pending checkpoint becomes durable, or with none pending the newest row gets one."""
        trial = self.state.at(index)
        number, saved = trial.number, Saved(trial.next_index, 1, 1, "")
        if trial.pending:
            number, saved = trial.pending[0].number, trial.pending[0].saved
        return self.add(CheckpointCommitted(trial.trial_id, trial.attempt, number, saved, order))

    def decide(self, index: int = 0, action: str = "CONTINUE", *, stop_all: bool = False) -> list[Command]:
        trial = self.state.at(index)
        return self.add(DecisionMade(trial.trial_id, trial.number, action, "scheduler", 0, b"", stop_all))

    def end(self, index: int = 0, outcome: str = "completed") -> list[Command]:
        trial = self.state.at(index)
        attempt = self.start_of(index).attempt
        return self.add(AttemptEnded(trial.trial_id, attempt, outcome, Failure("code", "x") if outcome == "failed" else None))

    def lose(self, index: int = 0) -> list[Command]:
        order = self.start_of(index)
        return self.add(AttemptLost(order.order, order.trial_id, order.attempt, "driver"))

    def drop(self, command: Command) -> list[Command]:
        assert isinstance(command, DropCheckpoint)
        return self.add(CheckpointDropped(command.order, command.trial_id, command.index))


def kinds(commands: list[Command]) -> list[str]:
    return [type(command).__name__ for command in commands]


def played(trials: int = 1, cpus: float = 2.0, **policy) -> Play:
    """A play in which some trials run."""
    play = Play(cpus, num_samples=trials, **policy)
    play.epoch()
    for index in range(trials):
        play.suggest()
        play.begin(index)
    return play


class TestIds:
    def test_an_order_is_named_by_the_record_that_caused_it(self) -> None:
        play = Play(time_budget_s=9.0)
        [wake] = play.born
        assert wake == WakeAt("0.0.0", 9.0)
        [ask] = play.epoch()
        assert ask == AskSearcher("1.1.0", 0)
        start, more = Play(), None
        start.epoch()
        [begun] = start.suggest()
        assert isinstance(begun, StartAttempt)
        assert (begun.order, more) == ("1.2.0", None)

    def test_the_ids_of_one_record_differ(self) -> None:
        play = Play(cpus=3.0, num_samples=3, ahead=3)
        play.epoch()
        commands = play.suggest()
        assert kinds(commands) == ["StartAttempt", "AskSearcher"]
        assert [command.order for command in commands] == ["1.2.0", "1.2.1"]


class TestAdmission:
    def test_trials_are_asked_for_and_started_until_all_places_are_taken(self) -> None:
        play = Play(cpus=2.0, num_samples=5)
        assert kinds(play.epoch()) == ["AskSearcher"]
        assert kinds(play.suggest()) == ["StartAttempt", "AskSearcher"]
        assert kinds(play.suggest()) == ["StartAttempt", "AskSearcher"]
        assert kinds(play.suggest()) == []  # one waits: `ahead` is 1
        assert len(play.controller.running) == 2

    def test_a_free_place_goes_to_the_earliest_waiting_trial(self) -> None:
        play = Play(cpus=1.0, num_samples=3, ahead=2)
        play.epoch()
        for _ in range(3):
            play.suggest()
        play.begin(0)
        commands = play.end(0)
        assert isinstance(commands[0], StartAttempt)
        assert (commands[0].index, commands[0].attempt) == (1, 1)

    def test_max_concurrent_bounds_what_resources_would_hold(self) -> None:
        play = Play(cpus=8.0, num_samples=4, max_concurrent=1)
        play.epoch()
        play.suggest()
        assert kinds(play.suggest()) == []
        assert len(play.controller.running) == 1

    def test_nothing_runs_before_a_driver_is_in_charge(self) -> None:
        play = Play()
        assert play.born == []
        play.suggest()
        assert play.controller.running == {}

    def test_another_machine_holds_another_number(self) -> None:
        play = Play(cpus=1.0, num_samples=3, ahead=3)
        play.epoch()
        for _ in range(3):
            play.suggest()
        assert len(play.controller.running) == 1
        play.cpus = 2.0
        assert kinds(play.epoch()) == ["StartAttempt"]

    def test_a_trial_with_needs_of_its_own_waits_for_room_and_is_not_overtaken(self) -> None:
        play = Play(cpus=2.0, num_samples=3, ahead=3)
        play.epoch()
        play.suggest()
        play.suggest(resources={"cpu": 2.0})
        play.suggest()
        assert list(play.controller.running) == ["abcde_00000"]
        play.begin()
        [start] = play.end()
        assert (start.trial_id, start.resources) == ("abcde_00001", {"cpu": 2.0})
        play.begin(1)
        assert [start.resources for start in play.end(1) if isinstance(start, StartAttempt)] == [{"cpu": 1.0}]


class TestRows:
    def test_a_row_is_judged_and_its_reply_is_the_decision(self) -> None:
        play = played()
        [decide] = play.row()
        assert decide == Decide(decide.order, "abcde_00000", 1)
        assert play.decide() == [Reply("abcde_00000", 1, 1, "CONTINUE")]
        assert decide.order not in play.controller.open_orders

    @pytest.mark.parametrize("action", ["STOP", "PAUSE"])
    def test_the_reply_may_unwind_the_attempt(self, action: str) -> None:
        play = played()
        play.row()
        assert play.decide(action=action) == [Reply("abcde_00000", 1, 1, action)]

    def test_a_redone_row_is_not_judged_again(self) -> None:
        play = played()
        for _ in range(3):
            play.row()
            play.decide()
        play.epoch()
        [again] = play.lose()
        assert isinstance(again, StartAttempt)
        assert (again.attempt, again.number, again.resume) == (2, 0, None)
        play.begin()
        for number in (1, 2, 3):
            assert play.row() == [Reply("abcde_00000", 2, number, "CONTINUE")]
        assert kinds(play.row()) == ["Decide"]


class TestRetries:
    def test_a_failed_trial_is_started_again_with_a_new_number_from_its_newest_checkpoint(self) -> None:
        play = played(max_failures=1)
        play.row(save=True)
        play.decide()
        [again] = play.end(outcome="failed")
        assert isinstance(again, StartAttempt)
        assert (again.attempt, again.number, again.grant) == (2, 1, 2)
        assert again.resume is not None
        assert again.resume.index == 0

    def test_after_the_last_failure_nothing_is_left_to_do(self) -> None:
        play = played(max_failures=0)
        assert play.end(outcome="failed") == [EndEpoch("finished")]

    def test_fail_fast_ends_the_epoch_though_others_run(self) -> None:
        play = played(trials=2, fail_fast=True)
        assert play.end(1, "failed") == [EndEpoch("fail_fast")]
        assert play.controller.running != {}

    def test_fail_fast_does_not_mind_an_attempt_that_is_tried_again(self) -> None:
        play = played(fail_fast=True, max_failures=1)
        assert kinds(play.end(outcome="failed")) == ["StartAttempt"]


class TestRetention:
    def test_a_surplus_checkpoint_is_dropped_and_then_deleted(self) -> None:
        play = played(num_to_keep=1)
        play.row(save=True)
        play.decide()
        play.row(save=True)
        reply, drop = play.decide()
        assert isinstance(reply, Reply)
        [delete] = play.drop(drop)
        assert isinstance(delete, DeleteCheckpoint)
        assert (delete.dirname, delete.index) == ("dir0", 0)
        assert play.add(CheckpointDeleted(delete.order, delete.trial_id, 0)) == []
        assert delete.order not in play.controller.open_orders

    def test_nothing_is_dropped_before_its_row_is_decided(self) -> None:
        play = played(num_to_keep=1)
        play.row(save=True)
        play.decide()
        assert kinds(play.row(save=True)) == ["Decide"]

    def test_the_newest_stays_though_its_score_is_the_worst(self) -> None:
        play = played(num_to_keep=1, score_attribute="a")
        for score in (3.0, float("nan"), 1.0):
            play.row(save=True, score=score)
            for command in play.decide()[1:]:
                play.drop(command)
        assert [kept.saved.index for kept in play.state.at(0).kept] == [0, 2]

    def test_redone_checkpoints_are_dropped_too(self) -> None:
        play = played(num_to_keep=1)
        for save in (True, False):
            play.row(save=save)
            play.decide()
        play.epoch()
        play.lose()
        play.begin()
        assert kinds(play.row(save=True)) == ["Reply", "DropCheckpoint"]


class TestBudget:
    def test_the_oldest_checkpoints_of_the_worst_trial_go_first(self) -> None:
        play = played(2, max_total_bytes=25, metric="score", mode="max")
        play.row(0, save=True, score=1.0, size=10)
        play.decide(0)
        play.row(0, save=True, score=2.0, size=10)
        play.decide(0)
        play.row(1, save=True, score=5.0, size=10)
        [reply, drop] = play.decide(1)
        assert (kinds([reply]), drop.trial_id, drop.index) == (["Reply"], "abcde_00000", 0)
        play.row(1, save=True, score=6.0, size=10)
        assert kinds(play.decide(1)) == ["Reply", "DropCheckpoint"]  # the order is open: the same one is not given up twice
        assert play.state.kept_bytes == 40
        play.drop(drop)
        assert play.state.kept_bytes == 30

    def test_what_an_unfinished_trial_resumes_from_stays(self) -> None:
        play = played(2, max_total_bytes=1, metric="score", mode="max")
        for index in (0, 1):
            play.row(index, save=True, score=float(index), size=10)
            assert kinds(play.decide(index)) == ["Reply"]
        [dropped] = play.end(0)
        assert isinstance(dropped, DropCheckpoint)
        assert dropped.trial_id == "abcde_00000"


class TestPending:
    def test_a_checkpoint_counts_when_it_is_committed(self) -> None:
        play = played(num_to_keep=1)
        for _ in range(2):
            play.row(stage=True)
            play.decide()
        trial = play.state.at(0)
        assert ([kept.number for kept in trial.pending], trial.kept) == ([1, 2], ())
        assert play.commit() == []
        assert trial.resume_point().number == 1
        assert kinds(play.commit()) == ["DropCheckpoint"]
        assert trial.resume_point().number == 2

    def test_a_trial_waits_until_what_its_last_attempt_staged_is_durable(self) -> None:
        play = played(max_failures=1)
        play.row(stage=True)
        play.decide()
        [commit] = play.end(outcome="failed")
        assert isinstance(commit, CommitCheckpoint)
        assert (commit.trial_id, commit.attempt, commit.number, commit.saved) == ("abcde_00000", 1, 1, Saved(0, 1, 1, ""))
        [start] = play.commit(order=commit.order)
        assert isinstance(start, StartAttempt)
        assert (start.resume, start.number, start.grant) == (Saved(0, 1, 1, ""), 1, 2)

    def test_a_lost_one_is_passed_over(self) -> None:
        play = played(max_failures=1)
        play.row(save=True)
        play.decide()
        play.row(stage=True)
        play.decide()
        [commit] = play.end(outcome="failed")
        [start] = play.add(CheckpointLost(commit.order, commit.trial_id, 1, "gone"))
        assert (start.resume, start.number) == (Saved(0, 1, 1, ""), 1)

    def test_the_end_waits_for_it_too(self) -> None:
        play = played()
        play.row(stage=True)
        play.decide(action="STOP")
        [commit] = play.end(outcome="failed")
        assert kinds(play.commit(order=commit.order)) == ["EndEpoch"]

    def test_a_new_driver_orders_it_for_an_attempt_that_ended_with_the_old_one(self) -> None:
        play = played()
        play.row(stage=True)
        play.decide()
        play.epoch()
        assert kinds(play.lose()) == ["CommitCheckpoint"]

    def test_a_restart_forgets_it(self) -> None:
        play = played()
        play.row(stage=True)
        play.decide()
        play.end(outcome="failed")
        play.epoch(errored="restart")
        assert not any(isinstance(order, CommitCheckpoint) for order in play.controller.open_orders.values())


class TestOwing:
    """A class trainable that is told to stop owes a checkpoint of its last row."""

    def stopped(self) -> Play:
        play = played(end_checkpoint=True, max_failures=2)
        play.row(save=True)
        play.decide()
        play.row()
        play.decide()
        play.row()
        play.decide(action="STOP")
        return play

    def test_one_that_was_saved_is_not_owed(self) -> None:
        play = self.stopped()
        play.commit()
        assert kinds(play.end(outcome="failed")) == ["EndEpoch"]
        assert play.state.at(0).state == "TERMINATED"

    @pytest.mark.parametrize("how", ["lost", "failed"])
    def test_rows_up_to_the_stop_are_redone_for_it(self, how: str) -> None:
        play = self.stopped()
        if how == "lost":
            play.epoch()
        [start] = play.lose() if how == "lost" else play.end(outcome="failed")
        assert (start.number, play.state.at(0).state, play.state.at(0).owes) == (1, "PENDING", True)
        play.begin()
        assert play.state.at(0).state == "STOPPING"
        assert play.row() == [Reply("abcde_00000", 2, 2, "CONTINUE")]
        assert play.row() == [Reply("abcde_00000", 2, 3, "STOP")]
        play.commit()
        assert kinds(play.end(outcome="stopped")) == ["EndEpoch"]
        trial = play.state.at(0)
        assert (trial.state, trial.owes, trial.resume_point().number) == ("TERMINATED", False, 3)

    def test_one_that_cannot_be_made_ends_without_it_when_the_budget_is_spent(self) -> None:
        play = self.stopped()
        for _ in range(2):
            play.end(outcome="failed")
            play.begin()
        assert kinds(play.end(outcome="failed")) == ["EndEpoch"]
        assert play.state.at(0).state == "TERMINATED"

    def test_a_callback_may_ask_for_one(self) -> None:
        play = played()
        play.row()
        trial = play.state.at(0)
        assert play.add(DecisionMade(trial.trial_id, 1, "CONTINUE", "scheduler", 0, save=True)) == [
            Reply("abcde_00000", 1, 1, "CONTINUE", save=True)
        ]
        play.commit()
        assert trial.resume_point().number == 1


class TestDelays:
    def test_a_failed_trial_waits_before_it_is_tried_again_and_longer_each_time(self) -> None:
        play = played(max_failures=3, retry_delay_s=10.0)
        waits = []
        for _ in range(3):
            [wake] = play.end(outcome="failed")
            assert isinstance(wake, WakeAt)
            assert (wake.trial_id, wake.why) == ("abcde_00000", "retry")
            waits.append(wake.time - play.state.time)
            assert kinds(play.add(Woke(wake.order, wake.trial_id, wake.why))) == ["StartAttempt"]
            play.begin()
        assert all(10.0 * 2**n <= wait <= 15.0 * 2**n for n, wait in enumerate(waits))
        assert len({wait / 2**n for n, wait in enumerate(waits)}) == 3  # spread, each by its own lot

    def test_others_run_meanwhile(self) -> None:
        play = Play(cpus=1.0, num_samples=2, ahead=2, max_failures=1, retry_delay_s=10.0)
        play.epoch()
        play.suggest()
        play.suggest()
        play.begin(0)
        assert [type(it).__name__ for it in play.end(0, outcome="failed")] == ["WakeAt", "StartAttempt"]
        assert list(play.controller.running) == ["abcde_00001"]

    def test_a_lost_attempt_is_not_waited_for(self) -> None:
        play = played(max_failures=1, retry_delay_s=10.0)
        play.epoch()
        assert kinds(play.lose()) == ["StartAttempt"]


class TestDeadlines:
    def waiting(self, play: Play) -> list[WakeAt]:
        return [order for order in play.controller.open_orders.values() if isinstance(order, WakeAt)]

    def test_an_attempt_that_takes_too_long_is_killed(self) -> None:
        play = played(trial_timeout_s=30.0, max_failures=1)
        [bound] = self.waiting(play)
        assert (bound.trial_id, bound.why, bound.time) == ("abcde_00000", "timeout", play.state.time + 30.0)
        assert play.add(Woke(bound.order, bound.trial_id, bound.why)) == [KillAttempt("abcde_00000", 1, "timeout")]
        assert play.controller.killing == {"abcde_00000": "timeout"}
        assert kinds(play.end(outcome="failed")) == ["StartAttempt"]
        assert play.controller.killing == {}

    def test_the_bound_goes_with_its_attempt(self) -> None:
        play = played(trial_timeout_s=30.0, no_progress_timeout_s=5.0, max_failures=1)
        assert len(self.waiting(play)) == 2
        play.end()
        assert self.waiting(play) == []

    def test_a_row_is_progress(self) -> None:
        play = played(no_progress_timeout_s=5.0)
        [bound] = self.waiting(play)
        play.row()
        reported = play.state.time
        [again] = play.add(Woke(bound.order, bound.trial_id, bound.why))
        assert isinstance(again, WakeAt)
        assert again.time == reported + 5.0
        for _ in range(10):  # each record is a second later than the one before
            play.add(InexactFound("x", 0, ""))
        assert play.add(Woke(again.order, again.trial_id, again.why)) == [KillAttempt("abcde_00000", 1, "no_progress")]


class TestTooManyFailures:
    def test_so_many_in_a_row_end_the_epoch(self) -> None:
        play = played(max_failures=-1, stop_after_failures=2)
        assert kinds(play.end(outcome="failed")) == ["StartAttempt"]
        play.begin()
        assert play.end(outcome="failed")[0] == EndEpoch("failures")

    def test_one_that_does_not_fail_begins_the_count_anew(self) -> None:
        play = played(2, max_failures=-1, stop_after_failures=2)
        play.end(0, outcome="failed")
        play.begin(0)
        play.end(1)
        assert EndEpoch("failures") not in play.end(0, outcome="failed")

    def test_a_part_of_all(self) -> None:
        play = played(max_failures=-1, stop_after_failures=0.5)
        for number in range(1, 11):
            ended = EndEpoch("failures") in play.end(outcome="failed")
            assert ended == (number == 10)  # fewer say nothing
            if not ended:
                play.begin()

    def test_a_restore_counts_anew(self) -> None:
        play = played(max_failures=-1, stop_after_failures=1)
        play.end(outcome="failed")
        assert kinds(play.epoch()) == ["StartAttempt"]


class TestPausing:
    def paused(self, samples: int) -> tuple[Play, list[Command]]:
        play = Play(cpus=1.0, num_samples=samples)
        play.epoch()
        play.suggest()
        play.begin()
        play.row(save=True)
        play.decide(action="PAUSE")
        return play, play.end(outcome="stopped")

    def test_a_paused_trial_goes_on_when_nobody_else_wants_its_place(self) -> None:
        play, commands = self.paused(samples=1)
        [start] = commands
        assert isinstance(start, StartAttempt)
        assert (start.attempt, start.number) == (2, 1)
        assert play.state.paused == {0}  # until its worker runs

    def test_trials_that_have_not_run_go_first(self) -> None:
        play, commands = self.paused(samples=2)
        assert kinds(commands) == ["AskSearcher"] or commands == []
        [start] = play.suggest()
        assert isinstance(start, StartAttempt)
        assert start.index == 1


class TestSearcher:
    def test_it_is_asked_again_only_after_something_happened(self) -> None:
        play = Play(cpus=2.0, num_samples=-1)
        play.epoch()
        play.suggest()
        assert play.add(NothingSuggested(play.controller.asking, 0, finished=False)) == []
        play.begin()
        play.row()
        play.decide()
        assert kinds(play.end()) == ["AskSearcher"]

    @pytest.mark.parametrize("how", ["lost", "failed"])
    def test_it_is_not_asked_again_because_an_attempt_ended_of_which_it_hears_nothing(self, how: str) -> None:
        """A question more than an uninterrupted run has may change what it answers later."""
        play = Play(cpus=2.0, num_samples=-1, max_failures=1)
        play.epoch()
        play.suggest()
        play.begin()
        assert play.add(NothingSuggested(play.controller.asking, len(play.records) - 1, finished=False)) == []
        if how == "lost":
            play.epoch()
        assert kinds(play.lose() if how == "lost" else play.end(outcome="failed")) == ["StartAttempt"]
        play.begin()
        assert kinds(play.end(outcome="completed")) == ["AskSearcher"]

    def test_one_that_gives_nothing_though_nothing_runs_ends_the_experiment(self) -> None:
        play = Play(num_samples=-1)
        play.epoch()
        assert play.add(NothingSuggested(play.controller.asking, 0, finished=False)) == [EndEpoch("finished")]

    def test_one_that_is_finished_ends_it_when_the_last_trial_ends(self) -> None:
        play = Play(num_samples=-1)
        play.epoch()
        play.suggest()
        assert play.add(NothingSuggested(play.controller.asking, 0, finished=True)) == []
        play.begin()
        assert play.end() == [EndEpoch("finished")]

    def test_it_is_not_asked_for_more_than_num_samples(self) -> None:
        play = Play(cpus=9.0, num_samples=1)
        play.epoch()
        assert kinds(play.suggest()) == ["StartAttempt"]


class TestStopping:
    def test_stop_all_ends_what_waits_and_calls_back_what_is_on_its_way(self) -> None:
        play = Play(cpus=2.0, num_samples=4)
        play.epoch()
        for _ in range(3):
            play.suggest()
        play.begin(0)
        play.row(0)
        commands = play.decide(0, "STOP", stop_all=True)
        assert commands == [Reply("abcde_00000", 1, 1, "STOP"), KillAttempt("abcde_00001", 1)]
        play.add(AttemptStarted(play.start_of(1).order, "abcde_00001", 1, "h", "i", 1))
        play.end(1, "failed")
        assert play.end(0, "stopped") == [EndEpoch("finished")]
        assert [trial.state for trial in play.state.trials.values()] == ["TERMINATED"] * 3

    def test_the_time_budget_is_an_order_that_an_event_answers(self) -> None:
        play = Play(time_budget_s=60.0)
        play.epoch()
        assert play.add(Woke("0.0.0")) == [EndEpoch("finished")]
        assert play.controller.open_orders.keys() == {play.controller.asking}


class TestTakingOver:
    def test_the_end_is_said_once_per_epoch(self) -> None:
        play = played()
        assert play.end() == [EndEpoch("finished")]
        assert play.add(EpochEnded("finished", "")) == []
        assert play.epoch() == [EndEpoch("finished")]

    def test_attempts_of_the_old_driver_keep_their_places_until_they_are_lost(self) -> None:
        play = played(trials=2)
        assert play.epoch() == []
        assert kinds(play.lose(0)) == ["StartAttempt"]
        assert kinds(play.lose(1)) == ["StartAttempt"]

    def test_a_restarted_trial_runs_in_its_new_directory(self) -> None:
        play = played(max_failures=0)
        play.row(save=True)
        play.decide()
        play.end(outcome="failed")
        play.add(EpochEnded("finished", ""))
        [start] = play.epoch(errored="restart")
        assert isinstance(start, StartAttempt)
        assert (start.dirname, start.resume, start.number, start.grant, start.attempt) == ("dir0_restart1", None, 0, 0, 2)

    @pytest.mark.parametrize("how", ["skip", "restart"])
    def test_a_row_without_a_decision_is_moot_when_its_trial_is_skipped_or_restarted(self, how: str) -> None:
        play = played()
        [decide] = play.row()
        assert decide.order in play.controller.open_orders
        play.epoch(unfinished=how)
        assert decide.order not in play.controller.open_orders
        assert play.controller.deciding == {}
        commands = play.lose()
        assert commands == [EndEpoch("finished")] if how == "skip" else kinds(commands) == ["StartAttempt"]

    def test_a_checkpoint_of_the_old_directory_is_not_dropped_in_the_new_one(self) -> None:
        play = played(num_to_keep=1)
        for _ in range(2):
            play.row(save=True)
            _, *drops = play.decide()
        assert drops[0].order in play.controller.open_orders
        play.epoch(unfinished="restart")
        assert drops[0].order not in play.controller.open_orders

    def test_a_checkpoint_is_still_to_be_dropped_where_its_trial_goes_on(self) -> None:
        play = played(num_to_keep=1)
        for _ in range(2):
            play.row(save=True)
            _, *drops = play.decide()
        play.epoch()
        assert drops[0].order in play.controller.open_orders

    def test_a_row_without_a_decision_is_still_to_be_decided_when_its_trial_goes_on(self) -> None:
        play = played()
        [decide] = play.row()
        play.epoch()
        assert decide.order in play.controller.open_orders
        assert play.decide() == [Reply("abcde_00000", 1, 1, "CONTINUE")]


def test_a_snapshot_is_the_controller() -> None:
    play = played(trials=2, num_to_keep=1, max_failures=2)
    for save in (True, True):
        play.row(0, save=save)
        play.decide(0)
    play.row(1)
    data = msgspec.msgpack.encode(play.controller)
    again = msgspec.msgpack.decode(data, type=Controller)
    assert again == play.controller
    record = Record(len(play.records), 1, 0.0, 0.0, DecisionMade("abcde_00001", 1, "STOP", "stop", 0))
    assert again.handle(record) == play.controller.handle(record)


class TestResourcesThatChange:
    def one_waits(self) -> Play:
        play = Play(2.0, num_samples=3)
        play.epoch()
        for index in range(3):
            play.suggest()
            if index < 2:
                play.begin(index)
        return play

    def test_more_room_lets_one_that_waits_begin(self) -> None:
        play = self.one_waits()
        assert kinds(play.add(ResourcesChanged({"cpu": 3.0}))) == ["StartAttempt"]
        assert play.state.epoch is not None
        assert play.state.epoch.resources == {"cpu": 3.0}

    def test_with_less_room_what_runs_goes_on_and_nothing_begins(self) -> None:
        play = self.one_waits()
        assert play.add(ResourcesChanged({"cpu": 1.0})) == []
        assert play.end(0) == []
        assert len(play.controller.running) == 1
        assert kinds(play.end(1)) == ["StartAttempt"]
