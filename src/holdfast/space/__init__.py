"""Search spaces: what a `param_space` may hold, and Ray Tune's names for it.

The parts: `laws` turns chance into numbers, `domains` are the values of one place, `variables` finds the places in a space
and counts its variants. How whole configurations are made of a space is told in `holdfast.search.variants`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from holdfast.space.domains import UNSET, Categorical, Domain, Float, Function, Integer
from holdfast.space.laws import listed
from holdfast.space.variables import check_space, constants, count_variants, space_keys, uses_user_functions

__all__ = [
    "Categorical",
    "Domain",
    "Float",
    "Function",
    "Integer",
    "check_space",
    "choice",
    "constants",
    "count_variants",
    "grid_search",
    "lograndint",
    "loguniform",
    "qlograndint",
    "qloguniform",
    "qrandint",
    "qrandn",
    "quniform",
    "randint",
    "randn",
    "sample_from",
    "space_keys",
    "uniform",
    "uses_user_functions",
]


def uniform(lower: float, upper: float) -> Float:
    """Real numbers in [lower, upper), evenly."""
    return Float(lower, upper).uniform()


def quniform(lower: float, upper: float, q: float) -> Float:
    """Multiples of `q` in [lower, upper], both bounds multiples."""
    return Float(lower, upper).uniform().quantized(q)


def loguniform(lower: float, upper: float, base: object = UNSET) -> Float:
    """Real numbers in [lower, upper), evenly on a logarithmic scale; `base` is without effect."""
    return Float(lower, upper).loguniform(base)


def qloguniform(lower: float, upper: float, q: float, base: object = UNSET) -> Float:
    """Multiples of `q` in [lower, upper], evenly on a logarithmic scale; `base` is without effect."""
    return Float(lower, upper).loguniform(base).quantized(q)


def randn(mean: float = 0.0, sd: float = 1.0) -> Float:
    """Real numbers by Gauss's law."""
    return Float(None, None).normal(mean, sd)


def qrandn(mean: float, sd: float, q: float) -> Float:
    """Multiples of `q` by Gauss's law."""
    return Float(None, None).normal(mean, sd).quantized(q)


def randint(lower: int, upper: int) -> Integer:
    """Whole numbers in [lower, upper), evenly."""
    return Integer(lower, upper).uniform()


def qrandint(lower: int, upper: int, q: int = 1) -> Integer:
    """Multiples of `q` in [lower, upper], evenly; for `q=1` without `upper`."""
    return Integer(lower, upper).uniform().quantized(q)


def lograndint(lower: int, upper: int, base: object = UNSET) -> Integer:
    """Whole numbers in [lower, upper), evenly on a logarithmic scale; `base` is without effect."""
    return Integer(lower, upper).loguniform(base)


def qlograndint(lower: int, upper: int, q: int, base: object = UNSET) -> Integer:
    """Multiples of `q` in [lower, upper], evenly on a logarithmic scale, for `q=1` without `upper`; `base` is without effect."""
    return Integer(lower, upper).loguniform(base).quantized(q)


def choice(categories: Sequence[Any]) -> Categorical:
    """One of `categories`, each as likely as the others."""
    return Categorical(categories).uniform()


def sample_from(func: Callable[..., Any]) -> Function:
    """What `func` returns, called with the configuration so far (`config["a"]`, or `spec.config.a`) or with nothing."""
    return Function(func)


def grid_search(values: Iterable[Any]) -> dict[str, list[Any]]:
    """Every value of `values`, each combined with every value of the other grids and with `num_samples` draws of the rest."""
    return {"grid_search": listed(values, "grid_search")}
