"""Searchers by name."""

from __future__ import annotations

import subprocess
import sys

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
    with pytest.raises(ConfigError, match=r"There are: .*optuna.*random"):
        create_searcher(name)


@pytest.mark.parametrize("name", ["HEBO", "skopt"])
def test_a_name_of_ray_tunes_that_is_left_out_says_what_to_use_instead(name) -> None:
    with pytest.raises(ConfigError, match=f"no searcher '{name}'. Use OptunaSearch"):
        create_searcher(name)


def test_a_class_is_loaded_when_its_name_is_asked_for() -> None:
    searcher = create_searcher("optuna", metric="loss", mode="min")
    assert type(searcher).__name__ == "OptunaSearch"
    assert searcher.metric == "loss"


def test_without_the_library_the_error_names_the_extra_and_nothing_else_needs_it() -> None:
    script = """
import sys
sys.modules["optuna"] = None  # as if it were not installed
from holdfast.search import create_searcher
import holdfast.search.optuna
create_searcher("random")
try:
    create_searcher("optuna")
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "OptunaSearch needs optuna, which is not installed: pip install 'holdfast[optuna]'" in done.stdout
