"""How many attempts may run at once, and which trial is next. Knows resources as numbers; refuses to know machines."""

from __future__ import annotations

from holdfast._core.policy import Policy

__all__ = ["capacity"]

_ROUNDING = 1e-9  # fractional requests such as 0.1 + 0.2 must not lose a place to floating point


def capacity(resources: dict[str, float], policy: Policy) -> int:
    """How many trials fit at once: by resources, and by `max_concurrent` where it is set.

    Args:
        resources: What there is, such as `{"cpu": 2.0}`.
        policy: The job's rules; `policy.request` is one trial's need.

    Returns:
        0 when not even one trial fits.
    """
    fits = [int(resources.get(kind, 0.0) / need + _ROUNDING) for kind, need in policy.request.items() if need > 0]
    if policy.max_concurrent:
        fits.append(policy.max_concurrent)
    return min(fits, default=len(resources) + 1_000_000)
