"""Searchers by name."""

from __future__ import annotations

import pytest

import holdfast as tune
from holdfast.errors import ConfigError
from holdfast.search import BasicVariantGenerator, create_searcher


def test_names_in_any_case_with_their_arguments() -> None:
    searcher = create_searcher("Variant_Generator", max_concurrent=3)
    assert isinstance(searcher, BasicVariantGenerator)
    assert searcher.max_concurrent == 3
    assert create_searcher(searcher) is searcher
    assert isinstance(tune.TuneConfig(search_alg="random").search_alg, BasicVariantGenerator)


def test_arguments_that_it_does_not_take_are_named() -> None:
    with pytest.warns(UserWarning, match="BasicVariantGenerator takes no metric"):
        create_searcher("random", metric="loss")


@pytest.mark.parametrize("name", ["magic", "", None, 7])
def test_an_unknown_name_lists_those_that_there_are(name) -> None:
    with pytest.raises(ConfigError, match=r"There are: .*random"):
        create_searcher(name)
