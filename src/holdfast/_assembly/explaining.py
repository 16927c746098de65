"""Explaining: does a journal follow from itself?

Fresh plug-ins are fed the journal's observations in the journal's order and asked again. Their answers must be the
recorded ones, from the first record to the last, however many drivers wrote them.
"""

from __future__ import annotations

from holdfast._assembly.driving import minds
from holdfast._assembly.plugging import job_at, plugins_of
from holdfast._core.commands import WakeAt
from holdfast._journal import read
from holdfast._projection.history import birth_of
from holdfast._runtime.recovery import replay
from holdfast.storage.base import Storage
from holdfast.storage.definitions import Definitions

__all__ = ["explain"]


def explain(storage: Storage) -> list[str]:
    """Replays the journal through fresh plug-ins.

    Loads the job's objects, so it runs the user's code; nothing is written.

    Returns:
        One line per answer that does not follow, in order; empty when the journal explains itself.

    Raises:
        JournalError: The journal is damaged.
        DefinitionError: The job's objects cannot be loaded by this Python.
    """
    records = read(storage)
    created = birth_of(storage)
    spec = job_at(Definitions(storage), created.definitions["job"])
    spec.run_config.callbacks = []
    controller, advice, _ = minds(storage, created, spec, plugins_of(created, spec))
    replay(records, controller, advice)
    found = [f"{wrong.plugin} at position {wrong.position}: {wrong.detail}" for wrong in advice.mismatches]
    recorded = [f"{wrong.plugin} from position {wrong.position} (recorded): {wrong.detail}" for wrong in controller.state.inexact]
    left = [order for order in controller.open_orders.values() if not isinstance(order, WakeAt)]
    if controller.state.ended == "finished" and left:
        found.append(f"the experiment finished with {len(left)} orders unanswered, the first is {left[0]!r}")
    return recorded + found
