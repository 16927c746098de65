"""Advice: asks stop rules, scheduler and searcher, in journal order, and remembers nothing that the journal does not.

The same calls in the same order happen live and on replay: a plug-in is called at the fold of the record that its answer rests
on. Live, the answer goes on record; on replay it is held against the recorded one, which stands.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from holdfast import settings, values
from holdfast._core.commands import AskSearcher, Decide
from holdfast._core.events import (
    AttemptEnded,
    AttemptStarted,
    DecisionMade,
    EpochStarted,
    InexactFound,
    JobExtended,
    NothingSuggested,
    Record,
    ResultReported,
    SchedulerOrdered,
    Steering,
    TrialChosen,
    TrialSuggested,
)
from holdfast._core.experiment import ExperimentState
from holdfast._core.trial import ERROR, RUNNING, TERMINATED, TrialState
from holdfast._runtime.chance import given_chance, has_own_chance
from holdfast._runtime.roll import Roll
from holdfast._runtime.scheduling import SchedulerDesk
from holdfast._runtime.searching import SearcherDesk
from holdfast._runtime.view import ControllerView
from holdfast.errors import InternalError, MetricMissing
from holdfast.schedulers.base import TrialScheduler
from holdfast.stopper.base import Stopper

__all__ = ["Advice", "Judgement", "Plugins", "Renewed", "reached"]
_ALWAYS = frozenset({"training_iteration", "time_total_s"})  # every row holds these


class Renewed(NamedTuple):
    """What an extension makes new: the stop rules, as in `Plugins`, and the space of samples to come, with its constants."""

    stopper: Stopper | None
    criteria: dict[str, Any]
    space: dict[str, Any]
    constants: dict[str, Any]


def _never_renewed(definitions: Mapping[str, str]) -> Renewed:
    raise InternalError(f"an extension is on record ({definitions}), and nobody can say what it makes new")


class Plugins(NamedTuple):
    """The user's own objects that decide.

    Attributes:
        scheduler: Decides on each row that no stop rule ends.
        stopper: `stop=` where it is a function, a Stopper or several.
        criteria: `stop=` where it is a dictionary: flattened key → bound.
        metric: The metric that every row must hold, or None.
        idle_scheduler: Whether the scheduler never wants to see a row (FIFO).
        renewed: Says what an extension makes new, given its definitions.
    """

    scheduler: TrialScheduler
    stopper: Stopper | None
    criteria: dict[str, Any]
    metric: str | None
    idle_scheduler: bool
    renewed: Callable[[Mapping[str, str]], Renewed] = _never_renewed


class Judgement(NamedTuple):
    """What stop rules and scheduler say of a row; callbacks have not been heard yet."""

    trial_id: str
    number: int
    heard: int
    action: str
    by: str
    stop_all: bool
    orders: Sequence[Steering] = ()
    save: bool = False


def reached(criteria: Mapping[str, Any], flat: Mapping[str, Any]) -> bool:
    """Whether a flattened row has reached one of the bounds."""
    return any(key in flat and _at_least(flat[key], bound) for key, bound in criteria.items())


def _warn_of_unknown(criteria: Mapping[str, Any], flat: Mapping[str, Any], warned: set[str]) -> None:
    """Warns once of each bound on what no row holds."""
    for key in criteria:
        if key not in flat and key not in warned:
            warned.add(key)
            import warnings

            warnings.warn(f"stop= names {key!r}, which no row holds so far; rows hold {sorted(flat)}", stacklevel=3)


def _sees_no_row(plugins: Plugins) -> bool:
    """Whether nobody wants to see rows."""
    return plugins.idle_scheduler and plugins.stopper is None and not plugins.criteria


def _at_least(value: Any, bound: Any) -> bool:
    """Whether a reported value has reached its bound; one that cannot be compared (None, text) has not."""
    try:
        return bool(value >= bound)
    except (TypeError, ValueError):
        return False


def _asked(state: ExperimentState, trial_id: str) -> tuple[str, str] | None:
    """What becomes of a trial at its next row because somebody asked from outside, or the scheduler ordered it; and who."""
    trial = state.trial(trial_id)
    if trial.unwanted:
        return "STOP", "request"
    if trial.held or state.held:
        return "PAUSE", "request"
    return (trial.ordered, "order") if trial.ordered in ("STOP", "PAUSE") else None


def _same_code(then: dict[str, str], now: dict[str, str]) -> bool:
    """Whether what draws configurations is what it was: this Python, this library, the same NumPy where both had one."""
    numpys = {versions["numpy"] for versions in (then, now) if "numpy" in versions}
    return len(numpys) < 2 and all(then.get(what) == now.get(what) for what in ("python", "holdfast"))


def _asks_user_code(plugins: Plugins, desk: SearcherDesk) -> bool:
    """Whether code that is not this library's own is asked about rows or for suggestions."""
    ours = all(type(plugin).__module__.startswith("holdfast.") for plugin in (plugins.scheduler, desk.searcher))
    return not (ours and plugins.stopper is None and desk.searcher.by_number and desk.own_chance)


class Advice:
    """The plug-ins' one interlocutor.

    Args:
        plugins, desk, state, roll, view: What it asks, and what they see.
        seed: The experiment's seed.
        versions: Of Python and libraries in this process; None to have every answer thought again and compared.

    Attributes:
        roll: The trials as plug-ins see them.
        scheduling: Where the scheduler is spoken to.
        asks_user_code: Whether code that is not this library's own is asked about rows or for suggestions.
        replaying: Whether answers are held against the record instead of going on it.
        mismatches: Answers that did not repeat, as they are to go on record.
    """

    def __init__(
        self,
        plugins: Plugins,
        desk: SearcherDesk,
        state: ExperimentState,
        roll: Roll,
        view: ControllerView,
        seed: int,
        versions: dict[str, str] | None = None,
    ) -> None:
        self.plugins = plugins
        self.desk = desk
        self.scheduling = SchedulerDesk(plugins.scheduler, view, self._chance, idle=plugins.idle_scheduler)
        self.replaying = True
        self.mismatches: list[InexactFound] = []
        self._state = state
        self.roll = roll
        self._seed = seed
        self._versions = versions
        self._judged: dict[str, Judgement] = {}
        self._warned: set[str] = set()
        self._deaf = type(desk.searcher).__module__.startswith("holdfast.")
        self._blind = _sees_no_row(plugins)
        self.asks_user_code = _asks_user_code(plugins, desk)
        needed = (plugins.metric, *getattr(plugins.scheduler, "required", ())) if settings.strict_metrics() else ()
        self._strict = [name for name in dict.fromkeys(needed) if name and name not in _ALWAYS]

    def check(self, row: ResultReported) -> None:
        """Looks at a row before it goes on record.

        Raises:
            MetricMissing: It lacks the metric that the job is about, or a key that the scheduler requires.
        """
        if not self._strict:
            return
        metrics = values.decode(row.metrics, None)
        for name in self._strict:
            if name not in metrics and name not in values.flatten(metrics):
                full = self.roll.row(self._state.trial(row.trial_id), row)
                if name not in full:
                    raise MetricMissing(name, sorted(map(str, metrics)))

    def hear(self, record: Record) -> None:
        """Has scheduler and searcher hear a record that was just folded."""
        event = record.event
        if isinstance(event, (ResultReported, AttemptStarted)):
            return
        if isinstance(event, DecisionMade):
            self._hear_decision(event)
        elif isinstance(event, TrialSuggested):
            if self.replaying:
                self._compare("searcher", record.position, self.desk.settle(event))
            self._tell("on_trial_add", event.trial_id)
        elif isinstance(event, NothingSuggested):
            if self.replaying:
                self._compare("searcher", record.position, self.desk.settle(event))
        elif isinstance(event, AttemptEnded):
            self._hear_end(event)
        elif isinstance(event, EpochStarted):
            self.desk.trusting = self._versions is not None and _same_code(event.versions, self._versions)
            for trial_id in [trial_id for trial_id in self._judged if self._state.trial(trial_id).state != RUNNING]:
                del self._judged[trial_id]  # skipped or begun anew: the row is not decided any more
            for trial_id in self._state.revived:
                self._tell("on_trial_add", trial_id)
        elif isinstance(event, JobExtended):
            self._hear_extension(event)
        elif isinstance(event, (TrialChosen, SchedulerOrdered)) and self.replaying:
            self._compare("scheduler", record.position, self.scheduling.settle(event))
        for trial_id in self._state.cancelled:
            self._tell("on_trial_remove", trial_id)
            self.desk.tell("on_trial_complete", trial_id, result=self._flat(self._state.trial(trial_id)) or None)

    def judge(self, order: Decide, row: ResultReported, position: int) -> Judgement:
        """Asks stop rules and scheduler about a row, at the fold of its record.

        Raises:
            Exception: What a plug-in itself raised.
        """
        judgement = self._judge(row, position)
        if self.replaying:
            self._judged[order.trial_id] = judgement
        return judgement

    def ask(self, order: AskSearcher, position: int) -> None:
        """Asks the searcher for the next trial, at the fold of the record that caused it."""
        self.desk.ask(order, position, replaying=self.replaying)

    def still_open(self) -> list[Judgement]:
        """At the end of a replay: judgements on rows that the last driver did not decide any more."""
        judged = list(self._judged.values())
        self._judged.clear()
        return judged

    def _judge(self, row: ResultReported, position: int) -> Judgement:
        action, by, stop_all = "CONTINUE", "scheduler", False
        orders: list[Steering] = []
        save = False
        plugins, state = self.plugins, self._state
        if row.done:
            action, by = "STOP", "done"
        elif state.stopping:
            action, by = "STOP", state.stopping
        elif (asked := _asked(state, row.trial_id)) is not None:
            action, by = asked
        elif not self._blind:
            full = self.roll.row(state.trial(row.trial_id), row)
            flat = values.flatten(full)
            _warn_of_unknown(plugins.criteria, flat, self._warned)
            if reached(plugins.criteria, flat):
                action, by = "STOP", "stop"
            elif plugins.stopper is not None and self._stopper(plugins.stopper, "stopper", row, full):
                action, by = "STOP", "stopper"
            else:
                action, by, orders, save = self.scheduling.decide(self.roll.of(row.trial_id), flat, row.number)
        if plugins.stopper is not None and not state.stopping and self._stopper(plugins.stopper, "stop_all", row):
            action, by, stop_all = "STOP", "stopper", True
        return Judgement(row.trial_id, row.number, position, action, by, stop_all, orders, save)

    def _stopper(self, stopper: Stopper, who: str, row: ResultReported, *full: dict[str, Any]) -> bool:
        """Asks the stopper about a row, or without the row's content about the whole experiment."""
        stopper.now(self._state.time)
        chance = contextlib.nullcontext() if has_own_chance(stopper) else self._chance(who, row.trial_id, row.number)
        with chance:
            return bool(stopper(row.trial_id, *full) if full else stopper.stop_all())

    def _tell(self, method: str, trial_id: str, *result: dict[str, Any]) -> None:
        """Has the scheduler hear something about a trial."""
        if not self.plugins.idle_scheduler:
            self.scheduling.tell(self._state.position, method, self.roll.of(trial_id), *result)

    def _chance(self, who: str, trial_id: str, number: int) -> contextlib.AbstractContextManager[None]:
        if not trial_id:
            return given_chance(self._seed, who, self._state.steps)
        trial = self._state.trial(trial_id)
        return given_chance(self._seed, who, trial.index, trial.branch, number)

    def _hear_decision(self, event: DecisionMade) -> None:
        if self.replaying:
            judged = self._judged.pop(event.trial_id, None)
            row = f"row {event.number} of {event.trial_id}"
            if judged is None or (judged.action, judged.stop_all) != (event.action, event.stop_all):
                was = "nothing" if judged is None else judged.action
                self._compare("scheduler", self._state.position, f"{row}: {was} for {event.action}")
            elif [*judged.orders] != event.orders:
                self._compare("scheduler", self._state.position, f"{row}: what it ordered did not repeat")
        if event.action != "STOP":
            if not self.desk.searcher.instant:  # one that answers without thinking learns from ends alone
                self.desk.tell("on_trial_result", event.trial_id, self._flat(self._state.trial(event.trial_id)))
            return
        by_itself = event.by in ("scheduler", "order")
        unheard = by_itself and self._deaf and self.desk.searcher.by_number  # nobody looks into the row
        flat = {} if unheard else self._flat(self._state.trial(event.trial_id))
        if event.by == "order":
            self._tell("on_trial_remove", event.trial_id)
        elif not by_itself:
            self._tell("on_trial_complete", event.trial_id, flat)
        self.desk.tell("on_trial_complete", event.trial_id, result=flat)

    def _hear_end(self, event: AttemptEnded) -> None:
        trial = self._state.trial(event.trial_id)
        if trial.state == TERMINATED and event.outcome == "completed" and not trial.stopped_by:
            flat = self._flat(trial)
            flat["done"] = True
            self._tell("on_trial_complete", event.trial_id, flat)
            self.desk.tell("on_trial_complete", event.trial_id, result=flat)
        elif trial.state == ERROR:
            self._tell("on_trial_error", event.trial_id)
            self.desk.tell("on_trial_complete", event.trial_id, error=True)
        if trial.state in (TERMINATED, ERROR):
            self.roll.forget(event.trial_id)

    def _hear_extension(self, event: JobExtended) -> None:
        new = self.plugins.renewed(event.definitions)
        if "stop" in event.changed:
            self.plugins = self.plugins._replace(stopper=new.stopper, criteria=new.criteria)
            self._blind = _sees_no_row(self.plugins)
        self.desk.extend(event.samples, new.space if "new_space" in event.changed else None, new.constants)
        self.asks_user_code = _asks_user_code(self.plugins, self.desk)
        for trial_id in event.revived:
            self._tell("on_trial_add", trial_id)

    def _flat(self, trial: TrialState) -> dict[str, Any]:
        """The newest row of a trial, flattened; empty where nobody listens who would look into it."""
        unheard = self.plugins.idle_scheduler and self.desk.searcher.instant
        return {} if unheard or trial.last is None else values.flatten(self.roll.row(trial, trial.last, trial.changes))

    def _compare(self, plugin: str, position: int, difference: str) -> None:
        """Notes the first position from which a plug-in is inexact."""
        known = any(found.plugin == plugin for found in [*self._state.inexact, *self.mismatches])
        if difference and not known:
            self.mismatches.append(InexactFound(plugin, position, difference))
