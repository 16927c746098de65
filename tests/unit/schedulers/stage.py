"""A stage for schedulers: plays the core, so that a test can see what a scheduler does without an experiment around it.

    stage = Stage(HyperBandScheduler(metric="m", mode="max"), places=2)
    trials = [stage.add({"x": x}) for x in range(5)]
    stage.no_more()
    answer = stage.report(trials[0], m=0.5)

What a scheduler orders during a call is collected and takes effect when the call is over. Places are filled by asking the
scheduler (one that does not override `choose_trial_to_run`: first the earliest pending trial, then the earliest paused one).
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

from holdfast.resources import PlacementGroupFactory
from holdfast.schedulers import TrialScheduler
from holdfast.values import flatten


class Order(NamedTuple):
    """What a scheduler ordered through its view."""

    trial_id: str
    verb: str
    config: dict[str, Any] | None = None
    donor: str = ""
    tag: str | None = None
    resources: PlacementGroupFactory | None = None


class StageTrial:
    """A trial as a scheduler sees it.

    Attributes:
        rows: All its rows, flattened.
        worker: "" without one, else "running" or "leaving" (its pause or stop is decided).
        starts: For each start the iteration that it went on from.
    """

    PENDING = "PENDING"

    def __init__(self, stage: Stage, index: int, config: dict[str, Any]) -> None:
        self.trial_id = f"abcde_{index:05d}"
        self.index = index
        self.status = "PENDING"
        self.evaluated_params = flatten(config)
        self.experiment_tag = str(index)
        self.path = f"/stage/{self.trial_id}"
        self.num_failures = 0
        self.rows: list[dict[str, Any]] = []
        self.worker = ""
        self.starts: list[int] = []
        self.checkpoint: Any = None
        self.source: Any = None  # the donor's checkpoint, until it has one of its own
        self.iteration = 0
        self.held = False
        self.ordered = ""
        self._stage = stage
        self._config = config
        self._placement = PlacementGroupFactory([{"CPU": 1}])

    @property
    def config(self) -> dict[str, Any]:
        return self._config

    @config.setter
    def config(self, config: dict[str, Any]) -> None:
        self._stage.view.change_trial(self, config)

    def set_config(self, config: dict[str, Any]) -> None:
        self.config = config

    @property
    def placement_group_factory(self) -> PlacementGroupFactory:
        return self._placement

    def update_resources(self, resources: PlacementGroupFactory) -> None:
        self._stage.view.change_trial(self, resources=resources)

    @property
    def last_result(self) -> dict[str, Any]:
        return self.rows[-1] if self.rows else {}

    def is_finished(self) -> bool:
        return self.status in ("TERMINATED", "ERROR")

    def __hash__(self) -> int:
        return hash(self.trial_id)

    def __eq__(self, other: object) -> bool:
        return getattr(other, "trial_id", None) == self.trial_id

    def __repr__(self) -> str:
        return f"<{self.trial_id} {self.status}>"


class StageView:
    """What a scheduler gets as its first argument."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.search_alg = SimpleNamespace(on_pause=stage.pauses.append, on_unpause=stage.unpauses.append)
        self.search_alg.searcher = self.search_alg

    @property
    def time(self) -> float:
        return self._stage.time

    @property
    def awaits_suggestion(self) -> bool:
        return self._stage.more

    def get_trials(self) -> list[StageTrial]:
        return self._stage.trials

    def get_live_trials(self) -> list[StageTrial]:
        return [trial for trial in self._stage.trials if not trial.is_finished()]

    def total_resources(self) -> dict[str, float]:
        return {"cpu": float(self._stage.places)}

    def has_resources_for_trial(self, trial: StageTrial) -> bool:
        return self._stage.free_places > 0

    def may_start(self, trial: StageTrial) -> bool:
        return self._stage.startable(trial)

    def stop_trial(self, trial: StageTrial) -> None:
        self._order(Order(trial.trial_id, "stop"))

    def pause_trial(self, trial: StageTrial, should_checkpoint: bool = True) -> None:
        self._order(Order(trial.trial_id, "pause"))

    def resume_trial(self, trial: StageTrial) -> None:
        self._order(Order(trial.trial_id, "resume"))

    def save_trial(self, trial: StageTrial) -> None:
        self._order(Order(trial.trial_id, "save"))

    def change_trial(
        self,
        trial: StageTrial,
        config: dict[str, Any] | None = None,
        *,
        donor: StageTrial | None = None,
        tag: str | None = None,
        resources: PlacementGroupFactory | None = None,
    ) -> None:
        given = (donor or trial).trial_id
        self._order(Order(trial.trial_id, "change", config, given, tag, resources))

    def update_trial_resources(self, trial: StageTrial, resources: PlacementGroupFactory) -> None:
        self._order(Order(trial.trial_id, "change", resources=resources))

    def _order(self, order: Order) -> None:
        assert self._stage.given is not None, f"{order} was given outside a call"
        self._stage.given.append(order)


class Stage:
    """Trials, places and a scheduler.

    Args:
        scheduler: Who is watched.
        places: How many trials run at once.
        linger: Whether a worker that is told to pause or stop stays until `gone`; else it is gone at once.
        properties: For `set_search_properties`, such as metric, mode and seed.

    Attributes:
        orders: All orders so far.
        answers: All answers so far, as (trial id, answer).
        pauses, unpauses: What the searcher was told.
        started_by_core: Trials that the scheduler chose not to run although nothing else would ever have happened.
        more: Whether the searcher is thinking about another trial.
    """

    def __init__(self, scheduler: TrialScheduler, places: int = 1, *, linger: bool = False, **properties: Any) -> None:
        self.scheduler = scheduler
        self.places = places
        self.linger = linger
        self.trials: list[StageTrial] = []
        self.time = 0.0
        self.more = True
        self.orders: list[Order] = []
        self.answers: list[tuple[str, str]] = []
        self.pauses: list[str] = []
        self.unpauses: list[str] = []
        self.started_by_core: list[str] = []
        self.given: list[Order] | None = None
        self.view = StageView(self)
        self._chooses = type(scheduler).choose_trial_to_run is not TrialScheduler.choose_trial_to_run
        scheduler.set_search_properties(properties.pop("metric", None), properties.pop("mode", None), **{"seed": 1, **properties})

    @property
    def running(self) -> list[StageTrial]:
        """The trials that a worker runs and that are to report."""
        return [trial for trial in self.trials if trial.worker == "running"]

    @property
    def free_places(self) -> int:
        return self.places - sum(trial.worker != "" for trial in self.trials) if self.places else 0

    @property
    def live(self) -> list[StageTrial]:
        return self.view.get_live_trials()

    def add(self, config: dict[str, Any] | None = None) -> StageTrial:
        """A new trial comes from the searcher."""
        trial = StageTrial(self, len(self.trials), dict(config or {}))
        self.trials.append(trial)
        self._call("on_trial_add", trial)
        self.fill()
        return trial

    def no_more(self) -> None:
        """The searcher has no more."""
        self.more = False
        self.fill()

    def report(self, trial: StageTrial, *, saved: bool = True, **metrics: Any) -> str:
        """A row of a running trial, with a checkpoint unless told otherwise. Returns the scheduler's answer."""
        assert trial.worker == "running", f"{trial} does not run"
        trial.iteration += 1
        self.time += 1.0
        defaults = {"training_iteration": trial.iteration, "time_total_s": float(trial.iteration)}
        row = flatten({**defaults, **metrics})
        trial.rows.append({key: value for key, value in row.items() if value is not Ellipsis})
        if saved:
            trial.checkpoint = SimpleNamespace(path=f"{trial.path}/checkpoint_{len(trial.rows):06d}", iteration=trial.iteration)
            trial.source = None
        if trial.ordered:
            answer, trial.ordered = trial.ordered, ""
        else:
            answer = self._call("on_trial_result", trial, dict(trial.rows[-1]))
        self.answers.append((trial.trial_id, answer))
        assert answer in ("CONTINUE", "NOOP", "PAUSE", "STOP"), answer
        if answer == "PAUSE":
            self._leave(trial, "PAUSED")
        elif answer == "STOP":
            self._leave(trial, "TERMINATED")
        self.fill()
        return str(answer)

    def complete(self, trial: StageTrial) -> None:
        """The trial returned, or a stop rule ended it."""
        self._leave(trial, "TERMINATED")
        trial.worker = ""
        self._call("on_trial_complete", trial, {**trial.last_result, "done": True})
        self.fill()

    def fail(self, trial: StageTrial) -> None:
        """The trial failed for good."""
        trial.status, trial.worker = "ERROR", ""
        self._call("on_trial_error", trial)
        self.fill()

    def lose(self, trial: StageTrial) -> None:
        """The trial's worker is gone and another attempt is allowed: nobody is told."""
        trial.status, trial.worker = "PENDING", ""
        self._back(trial)
        self.fill()

    def gone(self, trial: StageTrial) -> None:
        """A worker that lingered is gone."""
        assert trial.worker == "leaving", trial
        trial.worker = ""
        self.fill()

    def stop(self, trial: StageTrial) -> None:
        """Somebody outside stops a trial that has no worker."""
        assert not trial.worker, trial
        trial.status = "TERMINATED"
        self._call("on_trial_remove", trial)
        self.fill()

    def crash(self) -> None:
        """The driver is killed and restored from a snapshot: the scheduler from its pickle, workers gone."""
        self.scheduler = pickle.loads(pickle.dumps(self.scheduler))
        for trial in self.trials:
            if trial.worker:
                trial.worker = ""
                if trial.status == "RUNNING":
                    trial.status = "PENDING"
                    self._back(trial)
        self.fill()

    def play(
        self,
        train: Callable[[StageTrial], dict[str, Any] | None],
        chance: random.Random,
        *,
        new: int = 0,
        fault: float = 0.0,
        most: int = 100_000,
    ) -> None:
        """Lets trials report in random order until all have ended.

        Args:
            train: The next row of a trial; None ends it.
            chance: Who is next, and what happens.
            new: How many trials come, one by one, between the rows.
            fault: Probability, for each step, of each of: a failure, a lost worker, a crash of the driver, a stop from outside.
            most: The number of steps after which the play is called stuck.
        """
        for _ in range(most):
            leaving = [trial for trial in self.trials if trial.worker == "leaving"]
            if leaving and chance.random() < 0.5:
                self.gone(chance.choice(leaving))
            elif new and (chance.random() < 0.2 or not (self.running or leaving)):
                self.add({"x": chance.random()})
                new -= 1
                if not new:
                    self.no_more()
            elif self.running:
                self._step(train, chance, fault)
            elif not leaving:
                break
        assert not self.live, f"left over: {self.live}"

    def _step(self, train: Callable[[StageTrial], dict[str, Any] | None], chance: random.Random, fault: float) -> None:
        trial = chance.choice(self.running)
        lot = chance.random()
        if lot < fault:
            self.fail(trial)
        elif lot < 2 * fault:
            self.lose(trial)
        elif lot < 3 * fault:
            self.crash()
        elif lot < 4 * fault and (idle := [one for one in self.live if not one.worker]):
            self.stop(chance.choice(idle))
        elif (row := train(trial)) is None:
            self.complete(trial)
        else:
            self.report(trial, **row)

    def startable(self, trial: StageTrial) -> bool:
        """Whether an attempt of the trial could start now."""
        waits = trial.status in ("PENDING", "PAUSED") and not trial.worker and not trial.held
        return waits and self.free_places > 0

    def fill(self) -> None:
        """Gives the free places away."""
        while self.free_places > 0 and any(map(self.startable, self.trials)):
            if self._chooses:
                chosen = self._call("choose_trial_to_run")
            else:
                chosen = next((trial for trial in self.trials if self.startable(trial) and trial.status == "PENDING"), None)
                if chosen is None and not self.more:
                    chosen = next(filter(self.startable, self.trials), None)
            if chosen is None and not self.more and not any(trial.worker for trial in self.trials):
                chosen = next(filter(self.startable, self.trials), None)
                self.started_by_core += [chosen.trial_id] if chosen else []
            if chosen is None or not self.startable(self.trials[chosen.index]):
                return
            self._start(self.trials[chosen.index])

    def _start(self, trial: StageTrial) -> None:
        self._back(trial)
        trial.starts.append(trial.iteration)
        trial.status, trial.worker = "RUNNING", "running"

    def _back(self, trial: StageTrial) -> None:
        saved = trial.source or trial.checkpoint
        trial.iteration = saved.iteration if saved else 0

    def _leave(self, trial: StageTrial, status: str) -> None:
        trial.status = status
        trial.worker = "leaving" if self.linger and trial.worker else ""

    def _call(self, method: str, *arguments: Any) -> Any:
        self.given = []
        answer = getattr(self.scheduler, method)(self.view, *arguments)
        given, self.given = self.given, None
        self.orders += given
        removed = [trial for trial in map(self._carry_out, given) if trial is not None]
        if method == "on_trial_result":
            # The answer is in force before anything else is heard.
            arguments[0].status = {"PAUSE": "PAUSED", "STOP": "TERMINATED"}.get(answer, arguments[0].status)
        for trial in removed:
            self._call("on_trial_remove", trial)
        return answer

    def _carry_out(self, order: Order) -> StageTrial | None:
        """Does what was ordered; returns a trial that was stopped without a worker."""
        trial = next(one for one in self.trials if one.trial_id == order.trial_id)
        if trial.is_finished():
            return None
        if order.verb == "stop" and trial.status != "RUNNING":
            trial.status = "TERMINATED"
            return trial
        if order.verb in ("stop", "pause") and trial.status == "RUNNING":
            trial.ordered = order.verb.upper()
        elif order.verb == "resume" and trial.status == "PAUSED":
            trial.status = "PENDING"
        elif order.verb == "change":
            if order.config is not None:
                trial._config = order.config
            if order.tag is not None:
                trial.experiment_tag = order.tag
            if order.resources is not None:
                trial._placement = order.resources
            if order.donor and order.donor != trial.trial_id:
                donor = next(one for one in self.trials if one.trial_id == order.donor)
                trial.source = donor.source or donor.checkpoint
        return None
