"""What each trial is given: from the trainable that says it to the record that holds it.

Knows where a request comes from and whether a machine could ever grant it. Refuses to know who gets what when: that is
`_core.admission`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

from holdfast._core.admission import fits
from holdfast._core.experiment import ExperimentState
from holdfast._core.policy import Placement, Policy, Resume
from holdfast._core.trial import ERROR, TERMINATED
from holdfast._runtime.chance import given_chance
from holdfast.engines.base import Engine
from holdfast.errors import ConfigError
from holdfast.resources import DEFAULT, Request, asked_for, given
from holdfast.trainable import Trainable

__all__ = ["Ask", "Grants", "ask_per_trial", "asked_by", "check_recorded", "grants", "says_itself", "warn_of_another"]

Ask = Callable[[dict[str, Any]], Any]
Grants = Callable[[Request, str], None]
"""Refuses a request; is told whose it is."""


def asked_by(trainable: Any) -> Request | Ask:
    """What one trial of the trainable asks for, or a function of its configuration that says so.

    Raises:
        ConfigError: It could never be had on one machine.
    """
    asked = asked_for(trainable)
    if asked is None and isinstance(trainable, type) and issubclass(trainable, Trainable) and says_itself(trainable):
        # The user's own class says so, not the one that `with_parameters` made of it: its objects do not travel with the job.
        own = next(kind for kind in trainable.__mro__ if kind.__module__ != "holdfast.objects")
        asked = cast("type[Trainable]", own).default_resource_request
    if isinstance(asked, Request):
        _in_whole_gpus(asked)
    return DEFAULT if asked is None else asked


def says_itself(trainable: type[Trainable]) -> bool:
    """Whether a class has a `default_resource_request` of its own."""
    return any("default_resource_request" in vars(kind) for kind in trainable.__mro__ if kind is not Trainable)


def ask_per_trial(ask: Ask | None, seed: int, granted: Grants | None) -> Callable[[int, str, dict[str, Any]], Request | None]:
    """A function that gives (index, trial id, config) the trial's own request; None where all trials are given the same.

    Args:
        ask: The user's function, if the job has one; chance in it is given.
        seed: The experiment's.
        granted: Refuses what the engine could never grant; None where that does not matter.
    """

    def request(index: int, trial_id: str, config: dict[str, Any]) -> Request | None:
        if ask is None:
            return None
        with given_chance(seed, "resources", index):
            found = given(ask, config, trial_id)
        _in_whole_gpus(found)
        if granted is not None:
            granted(found, f"Trial {trial_id}")
        return found

    return request


def warn_of_another(trainable: Any, policy: Policy) -> None:
    """Warns where a trainable that is given again asks for what its trials will not be given."""
    asked = asked_for(trainable)
    if isinstance(asked, Request) and policy.request and asked != Request(policy.request, policy.placement):
        warnings.warn(
            f"Each trial is given {policy.request}, as it was submitted, and not {asked.amounts}, which the trainable asks for "
            "now.",
            stacklevel=2,
        )


def grants(engine: Engine) -> Grants:
    """What refuses a request that the engine could never grant, even when nothing else runs.

    An engine of several machines says so itself (`refuse`); all others have one.
    """
    refuse: Callable[[Mapping[str, float], Placement | None], str] = getattr(engine, "refuse", _no_single_machine)

    def check(request: Request, who: str) -> None:
        why = refuse(request.amounts, request.placement)
        if why:
            raise ConfigError(f"{who} asks for {request.amounts}, which can never be placed: {why}")
        has = engine.resources()
        if not fits(request.amounts, has):
            raise ConfigError(
                f"{who} asks for {request.amounts}, the machine has {has}: it could never run. Ask for less, or say what the "
                "machine has: HOLDFAST_CPUS, HOLDFAST_GPUS, HOLDFAST_RESOURCES or "
                "RunConfig(engine=LocalEngine(cpus=, gpus=, resources=)), or RayEngine(grows_to=) for a cluster that grows. "
                "The experiment can be restored on a larger machine."
            )

    return check


def check_recorded(state: ExperimentState, resume: Resume, granted: Grants) -> None:
    """Refuses an engine on which a trial on record that is to go on could never run; errors as in `grants`."""
    for trial in state.trials.values():
        if trial.resources is None:
            continue
        finished = resume.errored if trial.state == ERROR else resume.finished
        if (finished if trial.state in (ERROR, TERMINATED) else resume.unfinished) != "skip":
            granted(Request(trial.resources, trial.placement), f"Trial {trial.trial_id}")


def _in_whole_gpus(request: Request) -> None:
    gpus = request.amounts.get("gpu", 0.0)
    if gpus > 1 and not float(gpus).is_integer() and request.placement is None:
        raise ConfigError(f"A trial asks for {gpus} GPUs: ask for a part of one, or for whole ones.")


def _no_single_machine(amounts: Mapping[str, float], placement: Placement | None) -> str:
    gpus = amounts.get("gpu", 0.0)
    if gpus > 1 and not float(gpus).is_integer():
        return f"{gpus} GPUs of one machine are no whole ones: ask for a part of one, or for whole ones."
    if placement is None or placement.strategy != "STRICT_SPREAD" or sum(map(bool, placement.bundles)) < 2:
        return ""
    return (
        f"STRICT_SPREAD puts each of {placement.bundles} on a machine of its own, and trials run on one machine: "
        "use 'PACK' or 'SPREAD', or the engine 'ray'."
    )
