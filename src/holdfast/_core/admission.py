"""Which attempts may run beside each other. Knows resources as numbers; refuses to know machines."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast._core.policy import Policy
from holdfast._core.trial import TrialState

__all__ = ["capacity", "fits", "request_of", "together"]

_ROUNDING = 1e-9  # fractional requests such as 0.1 + 0.2 must not lose a place to floating point


def request_of(trial: TrialState, policy: Policy) -> dict[str, float]:
    """What one attempt of the trial is given."""
    return policy.request if trial.resources is None else trial.resources


def fits(request: dict[str, float], resources: dict[str, float], taken: Iterable[dict[str, float]] = ()) -> bool:
    """Whether `request` fits into `resources` beside what is `taken` already."""
    used = together(taken)
    return all(used.get(kind, 0.0) + need <= resources.get(kind, 0.0) + _ROUNDING for kind, need in request.items() if need > 0)


def together(requests: Iterable[dict[str, float]]) -> dict[str, float]:
    """The sum of several requests."""
    amounts: dict[str, float] = {}
    for request in requests:
        for kind, amount in request.items():
            amounts[kind] = amounts.get(kind, 0.0) + amount
    return amounts


def capacity(resources: dict[str, float], policy: Policy) -> int:
    """How many trials fit at once that ask for what every trial is given: by resources, and by `max_concurrent`.

    Args:
        resources: What there is, such as `{"cpu": 2.0}`.
        policy: The job's rules; `policy.request` is one trial's need.

    Returns:
        0 when not even one trial fits.
    """
    places = [int(resources.get(kind, 0.0) / need + _ROUNDING) for kind, need in policy.request.items() if need > 0]
    if policy.max_concurrent:
        places.append(policy.max_concurrent)
    return min(places, default=len(resources) + 1_000_000)
