"""Searchers, by Ray Tune's names."""

from __future__ import annotations

from holdfast.search.base import SearchAlgorithm, Searcher
from holdfast.search.basic_variant import BasicVariantGenerator
from holdfast.search.create import create_searcher

__all__ = ["BasicVariantGenerator", "SearchAlgorithm", "Searcher", "create_searcher"]
