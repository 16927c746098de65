"""A Gaussian process over hyperparameters that forgets: what `pb2.PB2` explores by.

The model is the time-varying Gaussian process bandit of Bogunovic et al., "Time-Varying Gaussian Process Bandit
Optimization", 2016 (section 3, kernel of equation 3), used as in Parker-Holder et al., "Provably Efficient Online
Hyperparameter Optimization with Population-Based Bandits", 2020 (section 4 and Algorithm 2): rewards are the improvements
since the step before, and trials that are being changed at the same time count through the variance that they take away.

Knows points in the unit cube, times and rewards. Refuses to know trials and keys. Needs NumPy. One generator gives all
chance: on one machine the same calls give the same points.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

__all__ = ["Observation", "suggested"]

_NEWEST = 80  # observations that the model rests on; older ones hardly count, and a step costs their number cubed
_FITS = 40  # settings of the kernel that are tried
_POINTS = 400  # points that are looked at, and again as many around the best of them


class Observation(NamedTuple):
    """What a step of a trial told.

    Attributes:
        time: The trial's progress, in steps.
        point: Where its hyperparameters stood, each between 0 and 1.
        before: The score at the step before.
        reward: How much the score improved since.
    """

    time: float
    point: tuple[float, ...]
    before: float
    reward: float


class _Kernel(NamedTuple):
    """Settings of the kernel.

    Attributes:
        scale: The length over which points are alike.
        forgetting: How much of a correlation is lost per step, 0 to 1.
        noise: The variance of rewards that points do not explain; that of the process is 1, as rewards are standardised.
    """

    scale: float
    forgetting: float
    noise: float

    def between(self, numpy: Any, a: Any, b: Any) -> Any:
        """The covariance of two sets of rows (time, features...)."""
        apart = ((a[:, None, 1:] - b[None, :, 1:]) ** 2).sum(axis=2)
        ages = numpy.abs(a[:, None, 0] - b[None, :, 0])
        return numpy.exp(-apart / (2 * self.scale**2)) * (1 - self.forgetting) ** (ages / 2)


def suggested(
    observations: list[Observation], time: float, before: float, pending: list[tuple[float, ...]], size: int, chance: Any
) -> tuple[float, ...]:
    """The point with the highest upper confidence bound on the improvement to come.

    Args:
        observations: All so far, oldest first.
        time: When the point is to be used, in steps.
        before: The score to go on from.
        pending: Points that are in use and have told nothing yet.
        size: How many hyperparameters there are.
        chance: A `numpy.random.Generator`.
    """
    import numpy

    newest = observations[-_NEWEST:]
    if len(newest) < 2:
        return tuple(map(float, chance.random(size)))
    rows = numpy.array([[one.time, one.before, *one.point] for one in newest], dtype=float)
    rewards = _standard(numpy.array([one.reward for one in newest], dtype=float))
    low, span = float(rows[:, 1].min()), float(numpy.ptp(rows[:, 1])) or 1.0
    rows[:, 1] = (rows[:, 1] - low) / span
    now = numpy.array([time, (before - low) / span])
    kernel = _fitted(numpy, rows, rewards, chance)
    seen = _with_context(numpy, now, numpy.array(pending, dtype=float).reshape(len(pending), size))
    bound = _Bound(numpy, kernel, rows, rewards, seen, math.sqrt(0.2 + math.log1p(0.4 * size * max(time, 1.0))))
    points = chance.random((_POINTS, size))
    for width in (0.1, 0.02):
        values = bound.of(_with_context(numpy, now, points))
        best = points[numpy.argsort(-values, kind="stable")[:20]]
        around = numpy.repeat(best, _POINTS // 20, axis=0) + chance.normal(0.0, width, (_POINTS // 20 * len(best), size))
        points = numpy.concatenate([best, numpy.clip(around, 0.0, 1.0)])
    return tuple(map(float, points[int(numpy.argmax(bound.of(_with_context(numpy, now, points))))]))


class _Bound:
    """The upper confidence bound: the mean knows rewards, the deviation also knows the pending points."""

    def __init__(self, numpy: Any, kernel: _Kernel, rows: Any, rewards: Any, pending: Any, width: float) -> None:
        self._numpy = numpy
        self._kernel = kernel
        self._rows = rows
        self._width = width
        self._weights = numpy.linalg.solve(_noisy(numpy, kernel, rows), rewards)
        self._all = numpy.concatenate([rows, pending])
        self._root = numpy.linalg.cholesky(_noisy(numpy, kernel, self._all))

    def of(self, rows: Any) -> Any:
        numpy, kernel = self._numpy, self._kernel
        mean = kernel.between(numpy, rows, self._rows) @ self._weights
        reduced = numpy.linalg.solve(self._root, kernel.between(numpy, self._all, rows))
        deviation = numpy.sqrt(numpy.maximum(1.0 - (reduced**2).sum(axis=0), 1e-12))
        return mean + self._width * deviation


def _fitted(numpy: Any, rows: Any, rewards: Any, chance: Any) -> _Kernel:
    """The settings under which the rewards are likeliest, of a number that is drawn."""
    best, top = _Kernel(0.5, 0.1, 0.1), -math.inf
    for scale, forgetting, noise in chance.random((_FITS, 3)).tolist():
        kernel = _Kernel(0.05 * 60.0**scale, 0.5 * forgetting**2, 1e-3 * 1000.0**noise)
        root = numpy.linalg.cholesky(_noisy(numpy, kernel, rows))
        half = numpy.linalg.solve(root, rewards)
        likelihood = float(-0.5 * (half @ half) - numpy.log(numpy.diag(root)).sum())
        if likelihood > top:
            best, top = kernel, likelihood
    return best


def _noisy(numpy: Any, kernel: _Kernel, rows: Any) -> Any:
    return kernel.between(numpy, rows, rows) + (kernel.noise + 1e-8) * numpy.eye(len(rows))


def _with_context(numpy: Any, now: Any, points: Any) -> Any:
    return numpy.concatenate([numpy.tile(now, (len(points), 1)), points], axis=1)


def _standard(values: Any) -> Any:
    deviation = float(values.std())
    return (values - values.mean()) / (deviation if deviation > 0 else 1.0)
