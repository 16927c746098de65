"""Recovery: replay the journal through the controller and the plug-ins, then answer what the last driver left open.

`replay` only reads. `take_over` begins the new epoch: what was judged and not decided is decided, what was asked and
not answered is answered, attempts that ended with their driver are lost at no cost to their trials, and repeatable
orders are given again. A fresh experiment goes the same way with nothing to replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from holdfast._core.commands import (
    AskSearcher,
    ChooseTrial,
    CommitCheckpoint,
    Decide,
    DeleteCheckpoint,
    DropCheckpoint,
    Order,
    StartAttempt,
    WakeAt,
)
from holdfast._core.controller import Controller
from holdfast._core.events import AttemptLost, CheckpointDropped, EpochStarted, Event, InexactFound, Record, ResultReported
from holdfast._core.ids import checkpoint_name, pending_name
from holdfast._core.trial import TrialState
from holdfast._runtime.advice import Advice
from holdfast._runtime.callbacks import CallbackDesk
from holdfast._runtime.extending import Extension, extend
from holdfast._runtime.loop import Driver
from holdfast.storage.base import Storage

__all__ = ["replay", "sweep", "take_over"]

STAGING = ".staging-"  # what an attempt writes before its checkpoint has any name


def replay(
    records: Iterator[Record],
    controller: Controller,
    advice: Advice,
    callbacks: CallbackDesk | None = None,
    also: Callable[[Record], None] | None = None,
) -> None:
    """Handles recorded events as they were handled the first time, without carrying anything out.

    Args:
        records: The journal behind the position at which controller and plug-ins stand.
        controller: Brought to the journal's end.
        advice: Likewise, and so are the plug-ins behind it.
        callbacks: Told again what they may have missed; None to tell nobody.
        also: Hears each record after its fold.
    """
    for record in records:
        commands = controller.handle(record)
        advice.hear(record)
        if callbacks is not None:
            callbacks.replay(record)
        if also is not None:
            also(record)
        for command in commands:
            if isinstance(command, Decide) and isinstance(record.event, ResultReported):
                advice.judge(command, record.event, record.position)
            elif isinstance(command, AskSearcher):
                advice.ask(command, record.position)
            elif isinstance(command, ChooseTrial):
                advice.scheduling.choose(command, record.position)


def take_over(driver: Driver, started: EpochStarted, storage: Storage, cuts: list[Event], asked: Extension | None = None) -> None:
    """Begins this driver's epoch.

    Args:
        driver: At the end of the replay.
        started: The fact to put on record first.
        storage: Where what killed attempts left half-written is swept.
        cuts: Torn tails that opening the journal cut.
        asked: What the job is to be extended by, when all of that is in order.

    Raises:
        ConfigError: It cannot be extended so; see `extend`.
    """
    parts = driver.parts
    controller, advice, callbacks = parts.controller, parts.advice, parts.callbacks
    callbacks.catch_up()
    left_open: list[Order] = list(controller.open_orders.values())
    judged = advice.still_open()
    said: list[Event] = [*advice.scheduling.said()]
    foreseen = advice.desk.foreseen()
    inexact: list[InexactFound] = list(advice.mismatches)
    advice.replaying = False
    if parts.two_minds:
        advice.desk.go_live(parts.engine.wake)
    saves = {order.order: _saves(storage, driver, order) for order in left_open if isinstance(order, StartAttempt)}
    driver.record([started, *cuts, *inexact])
    driver.record([driver.answer(it, repeated=True) for it in judged if it.trial_id in controller.deciding])
    driver.record(said)
    driver.record(list(foreseen))
    lost, dropped = list[Event](), list[Event]()
    parts.journal.sync()  # what was just decided may have dropped a checkpoint that the sweep below will not find named
    for order in left_open:
        if isinstance(order, StartAttempt):
            _sweep_trial(driver, order.trial_id, saves[order.order])
            lost.append(AttemptLost(order.order, order.trial_id, order.attempt, "driver"))
        elif isinstance(order, DropCheckpoint):
            if order.order in controller.open_orders:  # else its trial has just begun anew, elsewhere
                dropped.append(CheckpointDropped(order.order, order.trial_id, order.index))
        elif isinstance(order, (DeleteCheckpoint, CommitCheckpoint, WakeAt)):
            if order.order in controller.open_orders:
                driver.again(order)
            elif isinstance(order, CommitCheckpoint):  # its trial has just begun anew, elsewhere
                (parts.staged or storage).delete(f"{order.dirname}/{pending_name(order.saved.index)}")
        elif isinstance(order, AskSearcher) and not any(answer.order == order.order for answer in foreseen):
            advice.ask(order, driver.state.position)
    driver.record(dropped)
    driver.record(lost)
    driver.record(list(advice.desk.answers()))
    if asked is not None:
        extend(driver, asked)


def _saves(storage: Storage, driver: Driver, order: StartAttempt) -> list[tuple[Storage, list[str]]]:
    """What an attempt that was lost and those before it have saved or begun to, in each place where they may have.

    To be asked before the first record, which nobody writes whom a later driver has overtaken: what stands there is none of its.
    """
    staged = driver.parts.staged
    return [(place, saves_in(place, order.dirname)) for place in (storage, *([staged] if staged is not None else []))]


def _sweep_trial(driver: Driver, trial_id: str, saves: list[tuple[Storage, list[str]]]) -> None:
    named = names_of(driver.state.trial(trial_id))
    for place, paths in saves:
        sweep(place, paths, named)


def names_of(trial: TrialState) -> set[str]:
    """The directory names of a trial's checkpoints on record, pending ones included."""
    named = {checkpoint_name(kept.saved.index) for kept in (*trial.kept, *trial.pending)}
    return named | {pending_name(kept.saved.index) for kept in trial.pending}


def saves_in(storage: Storage, dirname: str) -> list[str]:
    """The paths of all that attempts of a trial have saved or begun to, whether a record names it or not."""
    return [f"{dirname}/{name}" for name in storage.names(dirname) if name.startswith((STAGING, "checkpoint_", ".pending-"))]


def sweep(storage: Storage, saves: Sequence[str], named: set[str]) -> list[str]:
    """Removes staging directories, and checkpoints that no record names.

    Args:
        storage: The experiment's directory, or the one that its attempts stage in.
        saves: What stood there (`saves_in`) before it was last seen that no later driver had claimed. Whoever is stopped behind
            that, and overtaken, sweeps no more than this when it goes on: none of it is the next driver's.
        named: The directory names of the checkpoints on record.

    Returns:
        What was removed.
    """
    removed = [path for path in saves if path.rpartition("/")[2] not in named]
    for path in removed:
        storage.delete(path)
    return removed
