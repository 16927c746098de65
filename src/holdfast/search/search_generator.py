"""Ray Tune's way to say that a `Searcher` is the search algorithm; here each searcher is one already."""

from __future__ import annotations

from holdfast.search.wrapping import Wrapper

__all__ = ["SearchGenerator"]


class SearchGenerator(Wrapper):
    """The searcher inside, and nothing else. For code that was written with it: `TuneConfig(search_alg=searcher)` says the same.

    Args:
        searcher: The searcher inside.

    Raises:
        ConfigError: It is no `Searcher`.
    """
