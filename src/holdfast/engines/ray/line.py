"""The driver's line to its mailbox: it takes what comes and leaves answers, both with one call where it can."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from holdfast._worker.protocol import Answer, encode_place
from holdfast.engines.ray.bell import Bell
from holdfast.engines.ray.cluster import own_node
from holdfast.engines.ray.mailbox import AT_ONCE, Mailbox, Place
from holdfast.engines.ray.messages import FromActor

__all__ = ["Line", "Mail"]


class Mail:
    """Messages have come; `error` where the mailbox is gone instead."""

    def __init__(self, messages: list[Any], error: BaseException | None) -> None:
        self.messages = messages
        self.error = error


class Line:
    """A new mailbox, on the driver's own node where it is on one: a node that is lost takes no other's attempts with it.

    Args:
        bell: Rings with `Mail`; `turn` then asks for the next.

    Attributes:
        mailbox: The actor's handle.
    """

    def __init__(self, bell: Bell) -> None:
        options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": AT_ONCE}
        here = own_node()
        if here:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(here, soft=False)
        self.mailbox: Any = ray.remote(Mailbox).options(**options).remote()
        self._bell = bell
        self._answers: dict[Place, bytes] = {}
        self._asking = False
        self.turn()

    def turn(self) -> None:
        """Sends the answers that were kept, and asks for what comes next unless it is being waited for."""
        answers, self._answers = self._answers, {}
        if not self._asking:
            self._asking = True
            self.mailbox.take.remote(answers).future().add_done_callback(
                lambda done: self._bell.ring(Mail([] if done.exception() else done.result(), done.exception()))
            )
        elif answers:
            self.mailbox.answer.remote(answers)

    def has_come(self) -> None:
        """What was asked for has come."""
        self._asking = False

    def answer(self, answer: Answer) -> None:
        """Keeps an answer for the row that waits for it, until the next `turn`."""
        self._answers[answer.trial_id, answer.attempt, answer.number] = encode_place(answer)

    def ask_back(self, message: FromActor) -> None:
        """Has a message come behind all that attempts which are gone by now have told."""
        self.mailbox.tell.remote(encode_place(message))

    def close(self) -> None:
        """Tells all who wait that nothing more is to come."""
        self.mailbox.close.remote()

    def kill(self) -> None:
        """Ends the mailbox."""
        ray.kill(self.mailbox)
