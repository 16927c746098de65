from __future__ import annotations

import pytest

from holdfast.errors import SearchSpaceError
from holdfast.space import (
    Categorical,
    Domain,
    check_space,
    choice,
    count_variants,
    grid_search,
    sample_from,
    space_keys,
    uniform,
    uses_user_functions,
)


class Mine(Domain):
    def draw(self, source, config=None):
        return 1


@pytest.mark.parametrize("wrong", [[], 3, "x", {1: 2}.items()])
def test_a_space_is_a_dictionary(wrong):
    with pytest.raises(ValueError, match="param_space must be a dictionary"):
        check_space(wrong)


def test_an_empty_space_is_one():
    assert check_space(None) == {}
    assert check_space({}) == {}


@pytest.mark.parametrize(
    "node",
    [
        {"grid_search": 3},
        {"grid_search": []},
        {"grid_search": "ab"},
        {"grid_search": {1, 2}},
        {"grid_search": [1], "x": 1},
        {"grid_serach": [1, 2]},
        {"gridsearch": [1, 2]},
        {"Grid_Search": [1, 2]},
        {"grid_searches": [1, 2]},
        choice([1, grid_search([1, 2])]),
        choice([{"a": grid_search([1, 2])}]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("wrap", [lambda n: {"k": n}, lambda n: {"a": {"k": n}}, lambda n: {"l": [1, n]}, lambda n: {"t": (n,)}])
def test_misspelt_grids_are_named(node, wrap):
    with pytest.raises(SearchSpaceError, match="grid"):
        check_space(wrap(node))


@pytest.mark.parametrize("node", [{"grid": [1, 2]}, {"grid_search_steps": [1]}, {"search": [1]}, {"grid_serach": 3}])
def test_other_dictionaries_are_left_alone(node):
    assert check_space({"k": node}) == {"k": node}


def test_a_grid_cannot_be_the_whole_space():
    with pytest.raises(SearchSpaceError, match="below a key"):
        check_space({"grid_search": [1]})


def test_counts():
    abc = grid_search([1, 2, 3])
    assert count_variants({}) == 1
    assert count_variants({"a": uniform(0, 1)}, 5) == 5
    assert count_variants({"a": abc, "b": {"c": [abc, 1]}}, 2) == 18
    assert count_variants({"a": Categorical([1, 2]).grid()}) == 2
    assert count_variants({"a": grid_search([{"x": abc, "y": abc}, 1])}) == 10
    assert count_variants({"a": abc}, -1) == -1


def test_points_take_the_place_of_samples():
    space = {"a": grid_search([1, 2, 3]), "b": grid_search([1, 2, 3])}
    assert count_variants(space, 6, [{"a": 1, "b": 2}, {"a": 1}, {"b": 2}]) == 34
    assert count_variants(space, 1, [{"a": 1, "b": 2}, {"a": 1}]) == 4


def test_keys():
    space = {"b": {"c": uniform(0, 1), "d": 1}, "a": [1, 2], "l": [{"x": uniform(0, 1)}, 3], "g": grid_search([1]), "e": {}}
    assert space_keys(space) == ["a", "b/c", "b/d", "e", "g", "l/0/x", "l/1"]
    assert space_keys({}) == []


def test_user_functions_are_found():
    assert not uses_user_functions({"a": uniform(0, 1), "b": grid_search([1, choice([2])]), "f": len})
    assert uses_user_functions({"a": [sample_from(lambda: 1)]})
    assert uses_user_functions({"a": choice([{"b": sample_from(lambda: 1)}])})
    assert uses_user_functions({"a": grid_search([Mine()])})
