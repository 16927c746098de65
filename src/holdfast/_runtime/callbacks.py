"""The callbacks' desk: calls the user's own callbacks, in the given order, after each record.

At least once: on record is what was decided, not who has been told. So after a crash the records that the last driver
may not have told everybody are told again, with `info["repeated"] = True`; a callback with a memory (`get_state`) gets it
back and is told all that came after the memory was taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from holdfast import values
from holdfast._core.events import (
    AttemptEnded,
    AttemptStarted,
    CheckpointCommitted,
    DecisionMade,
    EpochEnded,
    Record,
    ResultReported,
)
from holdfast._core.experiment import ExperimentState
from holdfast._core.trial import ERROR, TERMINATED
from holdfast._runtime.advice import Judgement
from holdfast._runtime.roll import Roll
from holdfast.callback import Callback
from holdfast.trial import aggregate

__all__ = ["Amendment", "CallbackDesk"]


class Amendment(NamedTuple):
    """What callbacks made of a row: what they changed in it, encoded, and whether one of them asks for a checkpoint of it."""

    changes: bytes = b""
    save: bool = False


class CallbackDesk:
    """All callbacks of an experiment; with none of them every method returns at once.

    Args:
        callbacks: The user's own objects.
        state, roll: The fold and its picture for users.
        store: Keeps a pickle and returns its sha256.
    """

    def __init__(self, callbacks: Sequence[Callback], state: ExperimentState, roll: Roll, store: values.Store) -> None:
        self.callbacks = list(callbacks)
        self.turn = 0
        self._state = state
        self._roll = roll
        self._store = store
        self._since: dict[int, int] = {}
        self._tail: list[Record] = []
        self._waiting: set[str] = set()
        roll.keep = bool(self.callbacks)

    def setup(self, stop: Any, num_samples: int) -> None:
        """Announces the run to every callback."""
        for callback in self.callbacks:
            callback.setup(stop=stop, num_samples=num_samples, total_num_samples=num_samples)

    def memories(self) -> dict[str, dict[str, Any] | None]:
        """What each callback wants to remember, by its number and class; taken into snapshots."""
        return {_place(number, callback): callback.get_state() for number, callback in enumerate(self.callbacks)}

    def remind(self, memories: dict[str, dict[str, Any] | None], position: int) -> None:
        """Gives each callback its memory of `position` back; with no memories kept, those that want one hear all again.

        No callback gets that of another class: those that the environment names may be others than the last time.
        """
        for number, callback in enumerate(self.callbacks):
            memory = memories.get(_place(number, callback))
            if memory is not None:
                callback.set_state(memory)
                self._since[number] = position
            elif callback.get_state() is not None:
                self._since[number] = -1

    def replay(self, record: Record) -> None:
        """Hears a record of an older driver: told again to callbacks that have a memory, kept for `catch_up` to the others."""
        if not self.callbacks:
            return
        ended = record.event if isinstance(record.event, EpochEnded) else None
        if ended is None or ended.reason != "error":  # after an error, which may be a callback's own, not all have been told
            if self._tail and self._tail[-1].time != record.time:
                self._tail.clear()
            self._tail.append(record)
        again = [callback for n, callback in enumerate(self.callbacks) if self._since.get(n, record.position) < record.position]
        self._tell(again, record, repeated=True, rows=True)

    def catch_up(self) -> None:
        """Tells what the last driver wrote last, which it may not have told everybody."""
        others = [callback for n, callback in enumerate(self.callbacks) if n not in self._since]
        for record in self._tail:
            self._tell(others, record, repeated=True, rows=False)
        self._tail.clear()

    def amend(self, judgement: Judgement, row: ResultReported, *, repeated: bool = False) -> Amendment:
        """Tells a row that is about to be decided; returns what the callbacks made of it."""
        if not self.callbacks:
            return Amendment()
        state = self._state.trial(judgement.trial_id)
        result = self._roll.row(state, row)
        before = {key: values.encode(value, self._store) for key, value in result.items()}
        trial = self._roll.of(judgement.trial_id)
        result["config"] = trial.config
        aggregate(trial, values.flatten({key: value for key, value in result.items() if key != "config"}))
        info = {"repeated": True} if repeated else {}
        for callback in self.callbacks:
            callback.on_trial_result(self.turn, self._roll, trial, result, **info)
        result.pop("config", None)
        changed = {key: value for key, value in result.items() if before.get(key) != values.encode(value, self._store)}
        if not changed:
            return Amendment()
        return Amendment(values.encode(changed, self._store), bool(changed.get("should_checkpoint")))

    def hear(self, record: Record) -> None:
        """Tells a record that was just folded."""
        if self.callbacks:
            self._tell(self.callbacks, record, repeated=False, rows=False)

    def step(self, *, begin: bool) -> None:
        """The tick at the begin and at the end of a turn of the driver."""
        if not self.callbacks:
            return
        self.turn += begin
        for callback in self.callbacks:
            (callback.on_step_begin if begin else callback.on_step_end)(self.turn, self._roll)

    def end(self) -> None:
        """Tells that the experiment is over."""
        for callback in self.callbacks:
            callback.on_experiment_end(self._roll)

    def _tell(self, to: Sequence[Callback], record: Record, *, repeated: bool, rows: bool) -> None:
        event = record.event
        if not to or not isinstance(event, (AttemptStarted, DecisionMade, CheckpointCommitted, AttemptEnded)):
            return
        trial = self._roll.of(event.trial_id)
        state = self._state.trial(event.trial_id)
        info: dict[str, Any] = {"repeated": True} if repeated else {}
        common = (self.turn, self._roll, trial)
        for callback in to:
            if isinstance(event, AttemptStarted):
                if state.kept:
                    callback.on_trial_restore(*common, **info)
                callback.on_trial_start(*common, **info)
            elif isinstance(event, DecisionMade):
                if rows:
                    callback.on_trial_result(*common, trial.last_result, **info)
                if state.kept and state.kept[-1].number == event.number and trial.checkpoint is not None:
                    _tell_saved(callback, common, trial.checkpoint, info)
            elif isinstance(event, CheckpointCommitted):
                _tell_saved(callback, common, trial.checkpoint, info)
            elif isinstance(event, AttemptEnded):
                if state.state == TERMINATED:
                    callback.on_trial_complete(*common, **info)
                elif state.state == ERROR:
                    callback.on_trial_error(*common, **info)
                elif event.outcome == "failed":
                    callback.on_trial_recover(*common, **info)


def _tell_saved(callback: Callback, common: tuple[int, Any, Any], checkpoint: Any, info: dict[str, Any]) -> None:
    callback.on_trial_save(*common, **info)
    callback.on_checkpoint(*common, checkpoint, **info)


def _place(number: int, callback: Callback) -> str:
    return f"{number} {type(callback).__qualname__}"
