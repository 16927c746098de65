"""Searchers by name, as configuration files and command lines give them.

It knows Ray Tune's names and where the classes are; a class's module is loaded when its name is asked for.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from holdfast.errors import ConfigError
from holdfast.search.base import SearchAlgorithm

__all__ = ["create_searcher"]

_NAMED = {
    "random": ("basic_variant", "BasicVariantGenerator"),
    "variant_generator": ("basic_variant", "BasicVariantGenerator"),
    "optuna": ("optuna", "OptunaSearch"),
    "hyperopt": ("hyperopt", "HyperOptSearch"),
    "ax": ("ax", "AxSearch"),
    "bayesopt": ("bayesopt", "BayesOptSearch"),
    "bohb": ("bohb", "TuneBOHB"),
    "nevergrad": ("nevergrad", "NevergradSearch"),
    "zoopt": ("zoopt", "ZOOptSearch"),
}
# Names that Ray Tune has or had, and what to use instead.
_LEFT_OUT = {
    "hebo": "OptunaSearch(sampler=optuna.samplers.GPSampler()), which models the objective by Gaussian processes as HEBO does",
    "dragonfly": "OptunaSearch(sampler=optuna.samplers.GPSampler())",
    "skopt": "OptunaSearch(sampler=optuna.samplers.GPSampler())",
    "sigopt": "OptunaSearch()",
    "blendsearch": "OptunaSearch()",
    "cfo": "OptunaSearch()",
}


def create_searcher(search_alg: str | SearchAlgorithm, **kwargs: Any) -> SearchAlgorithm:
    """The searcher of a name.

    Args:
        search_alg: Its name, in any case; a searcher is returned as it is.
        **kwargs: Its arguments. Those that it does not take are left out, with a warning.

    Raises:
        ConfigError: There is none of that name (lists those that there are), it is one of Ray Tune's that holdfast leaves out
            (says what to use instead), or its library is not installed (names the extra).
    """
    if isinstance(search_alg, SearchAlgorithm):
        return search_alg
    name = search_alg.lower() if isinstance(search_alg, str) else ""
    if name in _LEFT_OUT:
        raise ConfigError(f"holdfast has no searcher {search_alg!r}. Use {_LEFT_OUT[name]}.")
    if name not in _NAMED:
        raise ConfigError(f"There is no searcher {search_alg!r}. There are: {', '.join(sorted(_NAMED))}.")
    module, kind = _NAMED[name]
    searcher: type[SearchAlgorithm] = getattr(import_module(f"holdfast.search.{module}"), kind)
    import inspect

    taken = inspect.signature(searcher).parameters
    left = sorted(set(kwargs) - set(taken))
    if left:
        warnings.warn(f"create_searcher({search_alg!r}): {kind} takes no {', '.join(left)}.", stacklevel=2)
    return searcher(**{name: value for name, value in kwargs.items() if name in taken})
