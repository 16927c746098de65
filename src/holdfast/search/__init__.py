"""Searchers, by Ray Tune's names."""

from __future__ import annotations

from holdfast.search.base import SearchAlgorithm, Searcher
from holdfast.search.basic_variant import BasicVariantGenerator

__all__ = ["BasicVariantGenerator", "SearchAlgorithm", "Searcher"]
