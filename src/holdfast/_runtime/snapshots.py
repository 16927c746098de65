"""Snapshots: one consistent cut of controller, plug-ins and callbacks' memories at one position.

A shortcut for recovery and nothing more: losing all of them loses nothing. Taken between calls, when no plug-in is thinking,
and published only when the journal is durable that far.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from holdfast._core.controller import Controller
from holdfast._journal import Journal
from holdfast._runtime.advice import Advice
from holdfast._runtime.callbacks import CallbackDesk
from holdfast.search.base import Searcher, memory_of, remind

__all__ = ["SCHEMA", "Cut", "Snapshots", "load"]

SCHEMA = 6  # of what stands inside a snapshot; one of another number is dropped


class Cut(NamedTuple):
    """A loaded snapshot."""

    position: int
    controller: Controller
    plugins: Any
    searcher_calls: int
    memories: dict[str, dict[str, Any] | None]


class _Memory(NamedTuple):
    """Stands for a searcher that has no pickle: what it says that it remembers."""

    of: dict[str, Any]


class Snapshots:
    """When to take one: by default when the records since the last outnumber four times the trials, and 20,000.

    Or when the searcher has thought half a second, and ten times as long as the last one took to take.

    Where callbacks have a memory, which is kept nowhere else, 500 records are enough, and each orderly end has one.

    Args:
        due: Says whether one is due, given the position, the position of the last one and the number of trials.
        last: The position of the newest one on disk.
    """

    def __init__(self, due: Callable[[int, int, int], bool] | None = None, last: int = -1) -> None:
        self._due = due or _default_due
        self._last = last
        self._by_thought = due is None
        self._thought_s = self._took_s = 0.0

    def consider(
        self, controller: Controller, advice: Advice, callbacks: CallbackDesk, journal: Journal, *, ending: bool = False
    ) -> None:
        """Takes a snapshot if one is due and this is a moment for it."""
        position = controller.state.position
        if position == self._last:
            return
        behind = position - self._last
        remembering = (ending or behind > _OFTEN) and any(memory is not None for memory in callbacks.memories().values())
        thought = advice.desk.thought_s
        dear = self._by_thought and thought - self._thought_s > max(_DEAR_S, 10 * self._took_s)
        if not remembering and not dear and not self._due(position, self._last, len(controller.state.trials)):
            return
        thinking = controller.deciding or controller.asking or controller.choosing or advice.scheduling.unsaid
        if thinking or not advice.desk.resting:  # an answer that is in no record would be lost
            return
        began = time.perf_counter()
        if journal.durable < position:
            journal.sync()
        payload = _payload(controller, advice, callbacks)
        if payload is not None:
            journal.save_snapshot(SCHEMA, position, payload)
        self._last = position
        self._thought_s, self._took_s = thought, time.perf_counter() - began


def load(journal: Journal, fresh: Callable[[str], Searcher]) -> Cut | None:
    """The newest snapshot that counts, or None. One that cannot be read is no damage: recovery replays from further back.

    Args:
        journal: Where it is.
        fresh: Makes the searcher of a job (its definition's sha256) anew, for one that keeps its memory only by `get_state` or
            `save`.
    """
    found = journal.load_snapshot(SCHEMA)
    if found is None:
        return None
    position, payload = found
    try:
        core, plugins, calls, memories = msgspec.msgpack.decode(payload, type=tuple[Controller, bytes, int, bytes])
        scheduler, stopper, searcher = pickle.loads(plugins)
        if isinstance(searcher, _Memory):
            memory, searcher = searcher, fresh(core.state.definitions["job"])
            remind(searcher, memory.of)
        return Cut(position, core, (scheduler, stopper, searcher), calls, pickle.loads(memories))
    except Exception:  # noqa: BLE001 - a user's plug-in may raise anything while it is revived; the journal has it all
        return None


def _payload(controller: Controller, advice: Advice, callbacks: CallbackDesk) -> bytes | None:
    import cloudpickle

    from holdfast import values

    others, searcher = (advice.plugins.scheduler, advice.plugins.stopper), advice.desk.searcher
    try:
        try:
            pickled = values.pickled((*others, searcher))
        except Exception:  # noqa: BLE001 - a searcher may hold what has no pickle, and have its own way to be saved
            pickled = values.pickled((*others, _Memory(memory_of(searcher))))
        memories = cloudpickle.dumps(callbacks.memories())
    except Exception:  # noqa: BLE001 - a plug-in that cannot be pickled is replayed instead
        return None
    return msgspec.msgpack.encode((controller, pickled, advice.desk.calls, memories))


_DEAR_S = 0.5  # of a searcher's thinking, which a replay would take again
_OFTEN = 500  # records between snapshots where callbacks have a memory


def _default_due(position: int, last: int, trials: int) -> bool:
    return position - last > max(20_000, 4 * trials)
