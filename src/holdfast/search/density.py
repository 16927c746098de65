"""Two densities over places, and where their ratio is largest: the model of BOHB.

Falkner, Klein and Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML 2018, section 3.2: kernel
density estimators with a product kernel, one of the good configurations and one of the others, instead of TPE's hierarchy of
one-dimensional ones. On an axis of numbers the kernel is Gauss's, on one of c categories Aitchison's and Aitken's.

This module knows arrays of places: in [0, 1], or the index of a category; NaN where an axis does not count. It refuses to know
what they stand for, and how many make a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["Axis", "best_of"]


_NOTHING = math.log(1e-32)


class Axis(NamedTuple):
    """One axis: of so many categories, or of numbers in [0, 1] where `categories` is 0."""

    categories: int = 0


class _Density:
    """A kernel density estimator.

    The bandwidth of an axis of numbers is Scott's, 1.06 σ n^(-1/(4+d)); of one of c categories λ = (c-1)/c · n^(-2/(4+d)), which
    goes from even to exact at the rate that is best for such kernels. None is below `least`.
    """

    def __init__(self, data: Any, axes: Sequence[Axis], least: float, chance: Any) -> None:
        count, width = data.shape
        self._axes = axes
        self._data = _imputed(data, axes, chance)
        self._widths = []
        for at, axis in enumerate(axes):
            if axis.categories:
                most = (axis.categories - 1) / axis.categories
                self._widths.append(max(least, most * count ** (-2 / (4 + width))))
            else:
                self._widths.append(max(least, 1.06 * float(self._data[:, at].std()) * count ** (-1 / (4 + width))))

    def log(self, places: Any) -> Any:
        """The logarithm of the density at each of the places."""
        import numpy as np

        logs = np.zeros((len(places), len(self._data)))
        for at, (axis, width) in enumerate(zip(self._axes, self._widths, strict=True)):
            apart = places[:, at, None] - self._data[None, :, at]
            if axis.categories:
                logs += np.where(apart == 0, math.log(1 - width), math.log(width / (axis.categories - 1)))
            else:
                logs += -0.5 * (apart / width) ** 2 - math.log(width * math.sqrt(2 * math.pi))
        most = logs.max(axis=1)
        return most + np.log(np.exp(logs - most[:, None]).sum(axis=1) / len(self._data))

    def draw(self, count: int, factor: float, chance: Any) -> Any:
        """So many places, by kernels that are `factor` times as wide."""
        import numpy as np

        centers = self._data[chance.integers(len(self._data), size=count)]
        places = np.empty_like(centers)
        for at, (axis, width) in enumerate(zip(self._axes, self._widths, strict=True)):
            if axis.categories:
                stays = chance.random(count) < 1 - min(width * factor, (axis.categories - 1) / axis.categories)
                places[:, at] = np.where(stays, centers[:, at], chance.integers(axis.categories, size=count))
            else:
                places[:, at] = _inside(centers[:, at], width * factor, chance)
        return places


def best_of(
    good: Any, bad: Any, axes: Sequence[Axis], chance: Any, *, samples: int = 64, factor: float = 3.0, least: float = 1e-3
) -> list[float]:
    """The place, of `samples` drawn from the good ones' widened density, where good over bad is largest.

    Args:
        good: An array of shape (configurations, axes), not empty.
        bad: Another one.
        axes: Of what kind each axis is.
        chance: A NumPy `Generator`; all chance comes from it.
        samples: The paper's N_s.
        factor: The paper's b_w.
        least: The least bandwidth.
    """
    import numpy as np

    likely, unlikely = _Density(good, axes, least, chance), _Density(bad, axes, least, chance)
    places = likely.draw(samples, factor, chance)
    # Far from all that is bad its density is nothing, and how much of nothing does not matter: there the good one decides.
    at = int((np.maximum(likely.log(places), _NOTHING) - np.maximum(unlikely.log(places), _NOTHING)).argmax())
    return [float(place) for place in places[at]]


def _inside(centers: Any, width: float, chance: Any) -> Any:
    """A draw about each center from Gauss's law, kept to [0, 1]: what falls outside is drawn again, in the end evenly."""
    import numpy as np

    places = centers + width * chance.standard_normal(len(centers))
    for _ in range(20):
        outside = (places < 0) | (places > 1)
        if not outside.any():
            return places
        places = np.where(outside, centers + width * chance.standard_normal(len(centers)), places)
    return np.where((places < 0) | (places > 1), chance.random(len(centers)), places)


def _imputed(data: Any, axes: Sequence[Axis], chance: Any) -> Any:
    """The data with a value where an axis did not count: one of the others', or any where there is none."""
    import numpy as np

    data = data.copy()
    for at, axis in enumerate(axes):
        missing = np.isnan(data[:, at])
        if not missing.any():
            continue
        there = data[~missing, at]
        if len(there):
            data[missing, at] = there[chance.integers(len(there), size=int(missing.sum()))]
        elif axis.categories:
            data[missing, at] = chance.integers(axis.categories, size=int(missing.sum()))
        else:
            data[missing, at] = chance.random(int(missing.sum()))
    return data
