"""The population: what a population-based scheduler remembers of each trial, and who is best and worst.

Knows times, scores and who waits for a worker. Refuses to know configurations, and what is done with the best and the worst.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any, overload

__all__ = ["Member", "Population"]


class Member:
    """One trial.

    Attributes:
        trial_id: Whose.
        index: Its place among all trials.
        tag: The experiment tag that it was born with.
        time: Its progress at its last perturbation step.
        perturbed: The step up to which it needs no new perturbation.
        score: At its last perturbation step, more is better; minus infinity where it was NaN or infinite; None before, or
            where there was none.
        live: Whether it has not ended.
        waits: Whether it was paused, or never chosen; one whose worker was lost does not count.
        moves: Whether it is to go on from a better one when its turn comes.
    """

    __slots__ = ("index", "live", "moves", "perturbed", "score", "tag", "time", "trial_id", "waits")

    def __init__(self, trial_id: str, index: int, tag: str) -> None:
        self.trial_id = trial_id
        self.index = index
        self.tag = tag
        self.time = 0.0
        self.perturbed = 0.0
        self.score: float | None = None
        self.live = True
        self.waits = True
        self.moves = False


class Population:
    """All members, in order of creation; the scored live ones sorted as well."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._ranked: list[tuple[float, int, str]] = []
        self._waiting: dict[str, None] = {}
        self._line: list[tuple[float, int, str]] = []  # a heap of those that wait; entries that hold no more are passed over
        self._working: dict[str, None] = {}

    def of(self, trial_id: str) -> Member | None:
        """The member of that id, if it was ever added."""
        return self._members.get(trial_id)

    def add(self, tune_controller: Any, trial: Any) -> Member:
        """A trial came, or came back: one without rows begins anew."""
        known = self._members.get(trial.trial_id)
        if known is None or not trial.last_result:
            if known is not None:
                self.end(known.trial_id)
            place = known.index if known else _place(tune_controller.get_trials(), trial.trial_id, len(self._members))
            known = self._members[trial.trial_id] = Member(trial.trial_id, place, trial.experiment_tag.partition("@perturbed")[0])
        known.live = True
        self.wait(known)
        self.rate(known, known.score)
        return known

    def end(self, trial_id: str) -> None:
        """A trial ended."""
        member = self._members.get(trial_id)
        if member is None:
            return
        self.rate(member, None)
        member.live = False
        self._waiting.pop(member.trial_id, None)
        self._working.pop(member.trial_id, None)

    def rate(self, member: Member, score: float | None) -> None:
        """Gives a member a new score; None: it has none."""
        if member.score is not None:
            at = bisect_left(self._ranked, _key(member))
            if at < len(self._ranked) and self._ranked[at] == _key(member):
                del self._ranked[at]
        member.score = score
        if score is not None:
            insort(self._ranked, _key(member))

    def wait(self, member: Member) -> None:
        """A member was told to pause, or is new."""
        member.waits = True
        self._waiting[member.trial_id] = None
        self._working.pop(member.trial_id, None)
        heappush(self._line, (member.time, member.index, member.trial_id))

    def work(self, member: Member) -> None:
        """A member was given a worker; or it has one, as its row shows."""
        if member.waits:
            member.waits = member.moves = False
            self._waiting.pop(member.trial_id, None)
            self._working[member.trial_id] = None

    def first(self, before: float, may_start: Callable[[Member], bool]) -> Member | None:
        """Of those that wait, may start and have not come as far as `before`, the one that has come least far."""
        aside, found = [], None
        while self._line and found is None:
            place = heappop(self._line)
            member = self._members[place[2]]
            if not member.waits or not member.live or place[0] != member.time:
                continue  # it was given a worker since, or moved
            aside.append(place)
            if member.time >= before:
                break
            found = member if may_start(member) else None
        for place in aside:
            heappush(self._line, place)
        return found

    @property
    def working(self) -> list[Member]:
        """Those that were given a worker and not told to pause since."""
        return [self._members[trial_id] for trial_id in self._working]

    def anybody_else_waits(self, member: Member) -> bool:
        """Whether another member waits for a place."""
        return len(self._waiting) > (member.trial_id in self._waiting)

    def live(self) -> Iterator[Member]:
        """Those that have not ended."""
        return (member for member in self._members.values() if member.live)

    def standing(self, member: Member, fraction: float) -> int:
        """1 for a member among the highest `fraction`, or alone with a score; -1 for one among the lowest; else 0."""
        if member.score is None:
            return 0
        if len(self._ranked) == 1:
            return 1
        at, count = bisect_left(self._ranked, _key(member)), self._count(fraction)
        return -1 if at < count else int(at >= len(self._ranked) - count)

    def worst(self, fraction: float) -> list[Member]:
        """The lowest `fraction`, worst first; never more than half."""
        return [self._members[trial_id] for _, _, trial_id in self._ranked[: self._count(fraction)]]

    def best(self, fraction: float) -> Sequence[Member]:
        """The highest `fraction`, best last; never more than half. Good until a score changes; made of no list of its own."""
        return _Best(self._members, self._ranked, self._count(fraction))

    def _count(self, fraction: float) -> int:
        size = len(self._ranked)
        if size <= 1:
            return 0
        count = math.ceil(size * fraction)
        return size // 2 if count > size / 2 else count


class _Best(Sequence[Member]):
    """The last so many of those ranked."""

    def __init__(self, members: dict[str, Member], ranked: list[tuple[float, int, str]], count: int) -> None:
        self._members = members
        self._ranked = ranked
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Member: ...
    @overload
    def __getitem__(self, at: slice) -> list[Member]: ...
    def __getitem__(self, at: int | slice) -> Member | list[Member]:
        if isinstance(at, slice):
            return [self[n] for n in range(*at.indices(self._count))]
        if not 0 <= at < self._count:
            raise IndexError(at)
        return self._members[self._ranked[len(self._ranked) - self._count + at][2]]


def _key(member: Member) -> tuple[float, int, str]:
    score = member.score
    return (-math.inf if score is None else score, member.index, member.trial_id)


def _place(trials: Any, trial_id: str, guess: int) -> int:
    """Where a trial stands among all."""
    if guess < len(trials) and trials[guess].trial_id == trial_id:
        return guess
    return [trial.trial_id for trial in trials].index(trial_id)
