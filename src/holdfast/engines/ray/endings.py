"""Why an actor ended: what the shim, Ray and its nodes say of it, put together.

Knows reports, errors of Ray and nodes. It does not know who is told, or what follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from holdfast._core.commands import StartAttempt
from holdfast._core.events import Failure
from holdfast._worker.protocol import Workplace
from holdfast.engines.local.post_mortem import Death, post_mortem
from holdfast.engines.ray.cluster import Nodes
from holdfast.engines.ray.parent import Report, read_report
from holdfast.engines.ray.seat import Seat

__all__ = ["Endings"]

_PATIENCE_S = 10.0  # for the shim's word: the node may be lost, and Ray has not noticed
_LOSS_S = 30.0  # for Ray to notice that a node is lost
_NOTICE_S = 2.0  # for Ray to say how a process ended of which the shim has left word
_GOOD_ORDER_S = 0.3  # for Ray to list a lost node as taken away; one that ends in good order has told Ray before
_KILLED = 9
_NODE_DIED = "its node has died"  # as Ray says it


class Endings:
    """Looks into how actors ended.

    Args:
        place: Where the attempts worked.
        reports: Where shims leave word.
        nodes: The cluster's nodes.
        watched: Whether actors have a shim.
        lived: Says when a node whose disk the driver does not see was last known to live, by the monotonic clock.
    """

    def __init__(self, place: Workplace, reports: str, nodes: Nodes, lived: Callable[[str], float], *, watched: bool) -> None:
        self._place = place
        self._reports = reports
        self._nodes = nodes
        self._lived = lived
        self._watched = watched

    def are_told(self, seat: Seat) -> bool:
        """Whether all is known of the end of a seat's process that will be."""
        if not seat.heard:
            return False
        if seat.placed is None:
            return seat.error is not None
        if self._nodes.is_dead(seat.placed.node):
            return True
        if seat.placed.away:
            return self._is_told_away(seat, seat.placed.node)
        waited, report = time.monotonic() - seat.over_since, self._report(seat)
        if report is None:
            return waited > _PATIENCE_S or not self._watched
        if report.orphaned or self.node_died(seat):
            if waited <= _GOOD_ORDER_S:
                return False
            self._nodes.look(at_once=True)
            return True
        return seat.ended is not None or seat.error is not None or waited > _NOTICE_S

    def node_died(self, seat: Seat) -> bool:
        """Whether Ray says that the actor ended because its node did."""
        return _NODE_DIED in str(seat.error or "")

    def _is_told_away(self, seat: Seat, node: str) -> bool:
        """No shim's word comes from there. When its node is lost a worker ends at once, and Ray takes its time to say why."""
        if seat.ended is not None or self._lived(node) > seat.over_since:
            return True
        return time.monotonic() - seat.over_since > _LOSS_S

    def failure(self, seat: Seat, order: StartAttempt) -> Failure:
        """Why an attempt ended without a word of its own; removes its unfinished checkpoint."""
        placed, report, said = seat.placed, self._report(seat), str(seat.error or "")
        status = _KILLED if seat.killed else report.status if report is not None else None
        failure = post_mortem(self._place, order, Death(placed.pid if placed is not None else 0, status))
        if report is not None:
            failure = msgspec.structs.replace(failure, peak_memory=report.peak)
        if seat.killed:
            return failure
        node = placed.node if placed is not None else ""
        if self._nodes.was_preempted(node) or getattr(seat.error, "preempted", False):
            message = f"Node {self._nodes.address(node)} was taken away"
            return msgspec.structs.replace(failure, kind="preempted", message=message, signal=None, exit_code=None)
        if self._nodes.is_dead(node) or (report is not None and report.orphaned) or self.node_died(seat):
            message = f"Node {self._nodes.address(node)} was lost, with all that ran on it"
            return msgspec.structs.replace(failure, kind="node", message=message, signal=None, exit_code=None)
        if "OUT_OF_MEMORY" in said:
            return msgspec.structs.replace(failure, kind="oom", message=f"Ray ended the worker for want of memory: {said}"[:1000])
        if report is None and said:
            return msgspec.structs.replace(failure, message=f"The worker was lost. Ray says: {said}"[:1000])
        return failure

    def _report(self, seat: Seat) -> Report | None:
        """The shim's word; there is none of a node that does not see the driver's directory."""
        if seat.placed is None or seat.placed.away:
            return None
        return read_report(self._reports, seat.placed.worker)
