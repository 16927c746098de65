"""Searchers by name, as configuration files and command lines give them."""

from __future__ import annotations

import warnings
from typing import Any

from holdfast.errors import ConfigError
from holdfast.search.base import SearchAlgorithm, Searcher
from holdfast.search.basic_variant import BasicVariantGenerator

__all__ = ["create_searcher"]

_NAMED: dict[str, type[Searcher]] = {
    "random": BasicVariantGenerator,
    "variant_generator": BasicVariantGenerator,
}


def create_searcher(search_alg: str | SearchAlgorithm, **kwargs: Any) -> SearchAlgorithm:
    """The searcher of a name.

    Args:
        search_alg: Its name, in any case; a searcher is returned as it is.
        **kwargs: Its arguments. Those that it does not take are left out, with a warning.

    Raises:
        ConfigError: There is none of that name; lists those that there are.
    """
    if isinstance(search_alg, SearchAlgorithm):
        return search_alg
    kind = _NAMED.get(search_alg.lower()) if isinstance(search_alg, str) else None
    if kind is None:
        raise ConfigError(f"There is no searcher {search_alg!r}. There are: {', '.join(sorted(_NAMED))}.")
    import inspect

    taken = inspect.signature(kind).parameters
    left = sorted(set(kwargs) - set(taken))
    if left:
        warnings.warn(f"create_searcher({search_alg!r}): {kind.__name__} takes no {', '.join(left)}.", stacklevel=2)
    return kind(**{name: value for name, value in kwargs.items() if name in taken})
