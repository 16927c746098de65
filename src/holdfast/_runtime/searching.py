"""The searcher's desk: where the searcher hears what happened and is asked for the next configuration.

A searcher that thinks (`instant = False`) has a thread and a mailbox of its own: what it is to hear and what it is
asked stand in one line, in journal order, so an answer rests on exactly what had been heard when the question was put.
On replay the same line is worked off at once, in the caller's thread. A recorded answer is never asked for again: if
the repeated one differs, the recorded one stands and the searcher is given it through `adopt`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from holdfast import values
from holdfast._core.commands import AskSearcher
from holdfast._core.events import NothingSuggested, TrialSuggested
from holdfast._core.ids import trial_id
from holdfast._core.policy import Placement
from holdfast._runtime.chance import given_chance, has_own_chance
from holdfast.errors import ConfigError, InternalError
from holdfast.search.base import Searcher

__all__ = ["Answer", "Keeper", "Names", "SearcherDesk"]

Answer = TrialSuggested | NothingSuggested


class Names(NamedTuple):
    """What a new trial is called, and what it is given where that is its own."""

    tag: str
    dirname: str
    name: str
    resources: dict[str, float] | None = None
    placement: Placement | None = None


class Keeper(Protocol):
    """Keeps pickles by the sha256 of their bytes; `Definitions` is one."""

    def store(self, pickled: bytes) -> str:
        """Keeps a pickle and returns its sha256."""

    def load(self, sha: str) -> object:
        """The object of a pickle that was kept."""


class _Thought(NamedTuple):
    """What the searcher said to a question; on replay most of them never go on record, so names are given later."""

    order: AskSearcher
    heard: int
    config: dict[str, Any] | None
    evaluated: dict[str, Any]
    finished: bool


class SearcherDesk:
    """Puts questions to the searcher and tells it what happened.

    Args:
        searcher: The user's own object.
        seed: The experiment's seed.
        prefix: What trial ids begin with.
        constants: The part of `param_space` that a suggestion is merged into; empty where the searcher resolves the
            whole space itself.
        name: Gives (index, trial id, config, evaluated) its names, and what it is given.
        keeper: Where the pickles of objects in configurations are kept.

    Attributes:
        own_chance: Whether all chance in its answers comes from generators of its own, as it says itself.
        calls: How often the searcher was called.
        thought_s: How long it has taken over all calls in this process: what a replay of them would take again.
        trusting: Whether the versions that wrote the records being replayed are those that run now. Then a searcher that
            answers by number alone is not asked again for what is on record: it could only repeat it.
    """

    def __init__(
        self,
        searcher: Searcher,
        seed: int,
        prefix: str,
        constants: dict[str, Any],
        name: Callable[[int, str, dict[str, Any], dict[str, Any]], Names],
        keeper: Keeper,
    ) -> None:
        self.searcher = searcher
        self.calls = 0
        self.thought_s = 0.0
        self.trusting = False
        self._seed = seed
        self._prefix = prefix
        self._constants = constants
        self._name = name
        self._keeper = keeper
        self.own_chance = has_own_chance(searcher)
        self._given = self._done = 0  # each written by one thread only
        self._thread: threading.Thread | None = None
        self._mail: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._ready: deque[Answer | BaseException] = deque()
        self._foreseen: dict[str, _Thought] = {}
        self._put_off: dict[str, Callable[[], None]] = {}
        self._wake: Callable[[], None] = lambda: None

    def go_live(self, wake: Callable[[], None]) -> None:
        """Ends the replay: from here on a searcher that thinks does so in its own thread."""
        self._wake = wake
        if not self.searcher.instant:
            self._thread = threading.Thread(target=self._work, name="holdfast-searcher", daemon=True)
            self._thread.start()

    @property
    def resting(self) -> bool:
        """Whether nothing is being thought and nothing waits to be heard: the moment for a snapshot."""
        return self._given == self._done and not self._ready

    def tell(self, method: str, *arguments: Any, **named: Any) -> None:
        """Has the searcher hear something: the name of its method and the arguments."""
        self.calls += 1
        number = self.calls
        self._do(lambda: self._call(number, method, *arguments, **named))

    def ask(self, order: AskSearcher, heard: int, *, replaying: bool = False) -> None:
        """Asks for the next trial; the answer comes from `answers`, or on replay is compared in `settle`."""
        self.calls += 1
        number = self.calls

        def think() -> None:
            thought = self._think(number, order, heard)
            if replaying:
                self._foreseen[order.order] = thought
            else:
                self._ready.append(self._put(thought))

        if replaying and self.trusting and self.searcher.by_number and self.own_chance:
            self._put_off[order.order] = think
        else:
            self._do(think)

    def extend(self, samples: int, space: dict[str, Any] | None, constants: dict[str, Any]) -> None:
        """Has the searcher hear that the job asks for more; the constants are those of suggestions from there on."""
        self.calls += 1
        number = self.calls

        def hear() -> None:
            if not self._call(number, "extend", samples, space):
                raise InternalError(f"{type(self.searcher).__name__} was asked for more, which was found to be possible before")
            self._constants = constants
            self.own_chance = has_own_chance(self.searcher)

        self._do(hear)

    def settle(self, recorded: Answer) -> str:
        """On replay: holds the repeated answer against the one on record.

        Returns:
            Empty when they agree, else one line that says how they differ; the searcher has then been given the recorded one.
        """
        put_off = self._put_off.pop(recorded.order, None)
        if put_off is not None:
            if isinstance(recorded, TrialSuggested):
                getattr(self.searcher, "skip")()  # noqa: B009 - a method of those that answer by number only
                return ""
            put_off()
        repeated = self._foreseen.pop(recorded.order, None)
        if isinstance(recorded, NothingSuggested):
            same = repeated is not None and repeated.config is None and repeated.finished == recorded.finished
            return "" if same else "was recorded to have nothing to suggest, now gives something else"
        again = None if repeated is None or repeated.config is None else values.encode(repeated.config, self._keeper.store)
        if again == recorded.config:
            return ""
        adopt = getattr(self.searcher, "adopt", None)
        if adopt is not None:
            adopt(recorded.trial_id, values.decode(recorded.config, self._keeper.load))
        return f"the configuration of {recorded.trial_id} did not repeat"

    def foreseen(self) -> list[Answer]:
        """At the end of a replay: answers to questions that were still open when the last driver ended."""
        for think in self._put_off.values():
            think()
        self._put_off.clear()
        answers = [self._put(thought) for thought in self._foreseen.values()]
        self._foreseen.clear()
        return answers

    def answers(self) -> list[Answer]:
        """What is ready to go on record.

        Raises:
            Exception: What the searcher itself raised.
        """
        ready: list[Answer] = []
        while self._ready:
            item = self._ready.popleft()
            if isinstance(item, BaseException):
                raise item
            ready.append(item)
        return ready

    def close(self) -> None:
        """Lets the searcher finish its thought, and ends its thread."""
        if self._thread is not None:
            self._mail.put(None)
            self._thread.join()
            self._thread = None

    def _do(self, what: Callable[[], Any]) -> None:
        if self._thread is None:
            what()
        else:
            self._given += 1
            self._mail.put(what)

    def _work(self) -> None:
        while (what := self._mail.get()) is not None:
            try:
                what()
            except BaseException as error:  # noqa: BLE001 - a searcher's own error leaves fit() as itself
                self._ready.append(error)
            self._done += 1
            self._wake()

    def _call(self, number: int, method: str, *arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            if self.own_chance:
                return getattr(self.searcher, method)(*arguments, **named)
            with given_chance(self._seed, "searcher", number):
                return getattr(self.searcher, method)(*arguments, **named)
        finally:
            self.thought_s += time.perf_counter() - began

    def _think(self, number: int, order: AskSearcher, heard: int) -> _Thought:
        suggestion = self._call(number, "suggest", trial_id(self._prefix, order.index))
        if suggestion is None or suggestion == Searcher.FINISHED:
            return _Thought(order, heard, None, {}, finished=suggestion is not None)
        if not isinstance(suggestion, dict):
            raise ConfigError(
                f"{type(self.searcher).__name__}.suggest answered {suggestion!r}; "
                "it must be a dictionary, None or Searcher.FINISHED."
            )
        resolved = getattr(self.searcher, "last_evaluated", None)
        evaluated = values.flatten(suggestion) if resolved is None else resolved
        config = _merged(self._constants, suggestion) if self._constants else suggestion
        return _Thought(order, heard, config, evaluated, finished=False)

    def _put(self, thought: _Thought) -> Answer:
        """A thought as it goes on record, the new trial with its names."""
        order, config = thought.order, thought.config
        if config is None:
            return NothingSuggested(order.order, thought.heard, thought.finished)
        new = trial_id(self._prefix, order.index)
        names = self._name(order.index, new, config, thought.evaluated)
        return TrialSuggested(
            order=order.order,
            heard=thought.heard,
            trial_id=new,
            config=values.encode(config, self._keeper.store),
            evaluated=values.encode(thought.evaluated, self._keeper.store),
            tag=names.tag,
            dirname=names.dirname,
            name=names.name,
            resources=names.resources,
            placement=names.placement,
        )


def _merged(constants: dict[str, Any], suggestion: dict[str, Any]) -> dict[str, Any]:
    """`suggestion` laid over `constants`, dictionary by dictionary."""
    merged = dict(constants)
    for key, value in suggestion.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
