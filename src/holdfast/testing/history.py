"""The history checker: whether what an experiment has on disk keeps the promises made to its trials.

    problems = check_history(LocalStorage(path), acknowledged=[("3fa9c_00000", {"loss": 0.5}), ...])
    assert problems == []

Knows records, the rules about them and the files of checkpoints, and reads all of them anew, through the storage port
alone. It refuses to know how the experiment ran, and writes nothing.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Mapping

from holdfast._core.admission import fits, together
from holdfast._core.commands import CommitCheckpoint, DeleteCheckpoint, DropCheckpoint, StartAttempt
from holdfast._core.controller import Controller
from holdfast._core.events import (
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    DecisionMade,
    EpochStarted,
    ExperimentCreated,
    JobExtended,
    Record,
    ResultReported,
    Saved,
)
from holdfast._core.experiment import ExperimentState
from holdfast._core.ids import checkpoint_name, pending_name
from holdfast._core.trial import TrialState
from holdfast._journal import read, verify
from holdfast._projection.history import History
from holdfast.checkpoint import MANIFEST, METADATA
from holdfast.errors import InternalError, JournalError
from holdfast.storage.base import Storage
from holdfast.values import encode

__all__ = ["check_history"]


def check_history(
    storage: Storage,
    acknowledged: Iterable[tuple[str, Mapping[str, object]]] = (),
    *,
    at_rest: bool = True,
) -> list[str]:
    """Checks an experiment's history and checkpoints.

    Checked are: the journal reads, positions have no gaps, epochs begin with their driver; each record is legal where it
    stands; each row's number comes once and in order in its attempt and in the history; a row has at most one decision and
    none follows a decision to stop; no more attempts run than fit; all that was acknowledged is on record with its
    decision; each checkpoint that the state names is complete and byte for byte what was saved.

    Args:
        storage: The experiment's directory.
        acknowledged: Trial ids and metrics of reports that returned, as the trials themselves wrote them down. Rows with equal
            metrics in one trial count as one.
        at_rest: Whether a driver ended in good order: then every row has its decision, no attempt and no order is open,
            and no file of an unfinished or dropped checkpoint is left.

    Returns:
        One line for each broken rule; empty where all hold. Nothing was changed.

    Raises:
        ExperimentNotFound: There is no experiment.
        StorageError: A file cannot be read.
    """
    problems = [f"{it.file} at {it.offset}: {it.problem}" for it in verify(storage) if it.fatal]
    checker = _Checker()
    try:
        for record in read(storage):
            checker.hear(record)
    except (InternalError, JournalError) as error:
        return [*problems, *checker.problems, f"behind record {checker.state.position}: {error}"]
    problems += checker.problems
    problems += checker.incomplete(at_rest=at_rest)
    problems += _lost(checker, acknowledged)
    for trial in checker.state.trials.values():
        problems += _broken_checkpoints(storage, trial)
    if at_rest:
        problems += _left_files(storage, checker.state)
    return problems


class _Checker:
    """Hears the records one by one, with its own account beside the fold's."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.controller = Controller()
        self.state: ExperimentState = self.controller.state
        self.history = History()
        self.decisions: dict[tuple[str, int], dict[int, str]] = {}
        self.reported: dict[str, dict[bytes, tuple[int, int]]] = {}
        self._position = -1
        self._epoch = 0
        self._running: dict[str, int] = {}
        self._expected: dict[tuple[str, int], int] = {}

    def hear(self, record: Record) -> None:
        """Takes one record in; raises what the fold raises when it is illegal."""
        self._in_its_place(record)
        before = self._before(record)
        self.controller.handle(record)
        self.history.hear(record, self.state)
        event = record.event
        if isinstance(event, EpochStarted):
            self._running.clear()  # what ran before was another driver's, and ended with it
            self._revive(self.state.revived)
        elif isinstance(event, JobExtended):
            self._revive(event.revived)
        elif isinstance(event, AttemptStarted):
            self._started(event)
        elif isinstance(event, (AttemptEnded, AttemptLost)):
            self._running.pop(event.trial_id, None)
            self._forget_cut_decisions(event.trial_id)
        elif isinstance(event, ResultReported):
            self._reported(record, event)
        elif isinstance(event, DecisionMade):
            self._decided(record, event, before)

    def incomplete(self, *, at_rest: bool) -> Iterator[str]:
        """What is missing or left over at the end."""
        for trial in self.state.trials.values():
            numbers = [row.number for row in self.history.rows(trial.trial_id)]
            if numbers != list(range(1, len(numbers) + 1)):
                yield f"{trial.trial_id}: the history has the rows {numbers}"
            decided = self.decisions.get((trial.trial_id, trial.branch), {})
            undecided = [number for number in numbers if number not in decided]
            inherited = trial.inherited
            if inherited is not None and inherited.saved is not None:
                donor = self.state.trial(inherited.donor)
                gone = all(kept.saved.index != inherited.saved.index for kept in donor.kept)
                if gone and donor.dirname == inherited.source:
                    yield f"{trial.trial_id}: goes on from checkpoint {inherited.saved.index} of {donor.trial_id}, which is gone"
            if undecided and (at_rest or undecided != numbers[-1:]):
                yield f"{trial.trial_id}: rows {undecided} have no decision"
        if not at_rest:
            return
        if not self.state.ended:
            yield "the newest driver did not end in good order"
        if self._running:
            yield f"attempts have no end: {self._running}"
        for order in self.controller.open_orders.values():
            if isinstance(order, (StartAttempt, DropCheckpoint, DeleteCheckpoint, CommitCheckpoint)):
                yield f"an order is open: {order!r:.200}"

    def _revive(self, trial_ids: list[str]) -> None:
        """Lets trials that are to go on report again behind the decision that had stopped them."""
        for trial_id in trial_ids:
            decided = self.decisions.get((trial_id, self.state.trial(trial_id).branch), {})
            decided.update({number: "REVIVED" for number, action in decided.items() if action == "STOP"})

    def _in_its_place(self, record: Record) -> None:
        if record.position != self._position + 1:
            self.problems.append(f"record {record.position} comes after {self._position}")
        if record.epoch < self._epoch:
            self.problems.append(f"record {record.position} of epoch {record.epoch} comes after epoch {self._epoch}")
        begins = isinstance(record.event, (EpochStarted, ExperimentCreated))
        if record.epoch != self._epoch and not begins:
            self.problems.append(f"epoch {record.epoch} does not begin with its driver, at record {record.position}")
        self._position, self._epoch = record.position, record.epoch

    def _before(self, record: Record) -> tuple[int, int]:
        """The branch and the newest row of the trial that a decision is about, before the decision."""
        if not isinstance(record.event, DecisionMade):
            return 0, 0
        trial = self.state.trial(record.event.trial_id)
        return trial.branch, trial.number

    def _started(self, event: AttemptStarted) -> None:
        self._running[event.trial_id] = event.attempt
        self._room_for_all()
        self._expected[event.trial_id, event.attempt] = self.state.trial(event.trial_id).number + 1

    def _room_for_all(self) -> None:
        state, policy = self.state, self.state.policy
        taken = [self._granted(trial_id) for trial_id in self._running]
        room = {} if state.epoch is None else state.epoch.resources
        if not fits(together(taken), room) or 0 < policy.max_concurrent < len(taken):
            self.problems.append(
                f"{self._running} run with {taken} where {room} is: no more than {policy.max_concurrent or 'fit'}"
            )

    def _granted(self, trial_id: str) -> dict[str, float]:
        """What the running attempt was given: what the trial is to be given next may differ."""
        start = self.controller.open_orders.get(self.controller.running.get(trial_id, ""))
        return start.resources if isinstance(start, StartAttempt) else {}

    def _reported(self, record: Record, event: ResultReported) -> None:
        trial = self.state.trial(event.trial_id)
        where = f"{event.trial_id}, attempt {event.attempt}"
        expected = self._expected.get((event.trial_id, event.attempt))
        if expected != event.number:
            self.problems.append(f"{where}: row {event.number} at record {record.position} where row {expected} belongs")
        if self._running.get(event.trial_id) != event.attempt:
            self.problems.append(f"{where}: row {event.number} at record {record.position}, and that attempt does not run")
        self._expected[event.trial_id, event.attempt] = event.number + 1
        stopped = "STOP" in self.decisions.get((trial.trial_id, trial.branch), {}).values()
        if stopped and not (trial.owes and event.number <= trial.mark):  # redone for the checkpoint that a stop owes
            self.problems.append(f"{where}: row {event.number} at record {record.position} after the decision to stop")
        self.reported.setdefault(event.trial_id, {})[event.metrics] = (trial.branch, event.number)

    def _decided(self, record: Record, event: DecisionMade, before: tuple[int, int]) -> None:
        branch, newest = before
        decided = self.decisions.setdefault((event.trial_id, branch), {})
        if event.number in decided:
            self.problems.append(f"{event.trial_id}: a second decision on row {event.number}, at record {record.position}")
        if event.number != newest:
            self.problems.append(f"{event.trial_id}: record {record.position} decides on row {event.number}, not on {newest}")
        decided[event.number] = event.action

    def _forget_cut_decisions(self, trial_id: str) -> None:
        """A redo that ended early took the later rows of its branch out of the history, and with them their decisions."""
        trial = self.state.trial(trial_id)
        decided = self.decisions.get((trial_id, trial.branch), {})
        for number in [number for number in decided if number > trial.mark]:
            del decided[number]


def _lost(checker: _Checker, acknowledged: Iterable[tuple[str, Mapping[str, object]]]) -> Iterator[str]:
    """Acknowledged rows that are not on record, or neither in the history nor replaced by what is, or not decided."""
    shown: dict[str, set[bytes]] = {}
    for trial_id, metrics in acknowledged:
        encoded = encode(dict(metrics))
        place = checker.reported.get(trial_id, {}).get(encoded)
        if place is None:
            yield f"{trial_id}: an acknowledged row is not on record: {dict(metrics)}"
            continue
        if trial_id not in shown:
            rows = [*checker.history.rows(trial_id), *(old.row for old in checker.history.superseded(trial_id))]
            shown[trial_id] = {row.metrics for row in rows}
        if encoded not in shown[trial_id]:
            yield f"{trial_id}: an acknowledged row is neither in the history nor superseded: {dict(metrics)}"
        branch, number = place
        trial = checker.state.trial(trial_id)
        counts = branch == trial.branch and number <= len(checker.history.rows(trial_id))
        if counts and number not in checker.decisions.get((trial_id, branch), {}):
            yield f"{trial_id}: row {number} was acknowledged without a decision"


def _broken_checkpoints(storage: Storage, trial: TrialState) -> Iterator[str]:
    for kept in trial.kept:
        path = f"{trial.dirname}/{checkpoint_name(kept.saved.index)}"
        problem = _broken(storage, path, kept.saved)
        if problem:
            yield f"{path}: {problem}"


def _broken(storage: Storage, path: str, saved: Saved) -> str:
    """What is wrong with a checkpoint's files, read through the port; written apart from the code that loads checkpoints."""
    if not storage.exists(path):
        return "the state names it and it is not there"
    if not saved.manifest:
        return ""  # an engine without files of its own, such as the simulated one, checks in its own way
    import hashlib
    import json

    try:
        text = storage.read(f"{path}/{MANIFEST}")
        if hashlib.sha256(text).hexdigest() != saved.manifest:
            return "its manifest is not the one on record"
        files = json.loads(text)["files"]
        for name, size, checksum in files:
            if name == METADATA:
                continue  # a user may change it later
            data = storage.read(f"{path}/{name}")
            if len(data) != size or zlib.crc32(data) != checksum:
                return f"{name} is not what was saved"
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    if (len(files), sum(size for _, size, _ in files)) != (saved.files, saved.size):
        return "its manifest does not agree with its record"
    return ""


def _left_files(storage: Storage, state: ExperimentState) -> Iterator[str]:
    """Checkpoints that no record names, and what was being written when a process was killed."""
    for trial in state.trials.values():
        named = {checkpoint_name(kept.saved.index) for kept in trial.kept}
        named |= {pending_name(kept.saved.index) for kept in trial.pending}
        for name in storage.names(trial.dirname):
            if name.startswith(("checkpoint_", ".pending-")) and name not in named:
                yield f"{trial.dirname}/{name}: no record names it"
        first = trial.dirname.partition("_restart")[0]
        for folder in [first, *(f"{first}_restart{branch}" for branch in range(1, trial.branch + 1))]:
            for name in storage.names(folder):
                if name.startswith(".staging-"):
                    yield f"{folder}/{name}: left half-written"
    for folder, folders, files in os.walk(storage.root):  # what the port hides: nothing for a storage that is no directory
        for name in (*folders, *files):
            if name.startswith(".tmp-"):
                yield f"{os.path.join(folder, name)}: left half-written"
