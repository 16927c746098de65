"""Searchers, by Ray Tune's names."""

from __future__ import annotations

from holdfast.search.base import SearchAlgorithm, Searcher
from holdfast.search.basic_variant import BasicVariantGenerator
from holdfast.search.concurrency_limiter import ConcurrencyLimiter
from holdfast.search.create import create_searcher
from holdfast.search.repeater import Repeater
from holdfast.search.search_generator import SearchGenerator

__all__ = [
    "BasicVariantGenerator",
    "ConcurrencyLimiter",
    "Repeater",
    "SearchAlgorithm",
    "SearchGenerator",
    "Searcher",
    "create_searcher",
]
