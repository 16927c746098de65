from __future__ import annotations

import json
import pickle
from collections import OrderedDict

import pytest

from holdfast.errors import SearchSpaceError
from holdfast.search.variants import Plan
from holdfast.space import choice, grid_search, randint, sample_from, uniform


def configs(space, **kwargs):
    plan = Plan(space, **kwargs)
    return [plan.variant(k).config for k in range(plan.total)]


def test_the_first_key_in_sorted_order_varies_fastest():
    found = configs({"b": grid_search([1, 2]), "a": grid_search(["x", "y", "z"])})
    assert found == [{"b": b, "a": a} for b in (1, 2) for a in "xyz"]
    nested = configs({"z": grid_search([1, 2]), "n": {"b": grid_search([3, 4]), "a": {"grid_search": [5, 6]}}})
    assert [(c["n"]["a"], c["n"]["b"], c["z"]) for c in nested][:4] == [(5, 3, 1), (6, 3, 1), (5, 4, 1), (6, 4, 1)]


def test_grids_and_domains_stand_anywhere():
    found = configs({"l": [grid_search([1, 2]), (grid_search([3, 4]), randint(7, 8))], "k": 0, "t": ({"u": randint(5, 6)},)})
    assert found[3] == {"l": [2, (4, 7)], "k": 0, "t": ({"u": 5},)}
    assert len(found) == 4


def test_every_sample_goes_through_the_grid_with_draws_of_its_own():
    found = configs({"a": grid_search([1, 2]), "u": uniform(0, 1)}, num_samples=3, seed=1)
    assert [c["a"] for c in found] == [1, 2] * 3
    assert len({c["u"] for c in found}) == 6


def test_constant_draws_stay_over_the_grid():
    calls = []
    space = {
        "a": grid_search([1, 2, 3]),
        "u": uniform(0, 1),
        "f": sample_from(lambda: calls.append(1) or len(calls)),
        "g": sample_from(lambda c: c["a"] * 10),
    }
    found = configs(space, num_samples=2, constant=True, seed=1)
    assert len({c["u"] for c in found}) == 2
    assert len({c["u"] for c in found[:3]}) == 1
    assert [c["f"] for c in found] == [1, 1, 1, 2, 2, 2]
    assert [c["g"] for c in found] == [10, 20, 30] * 2


def test_a_variant_depends_on_its_number_alone():
    space = {"a": grid_search([1, 2]), "u": uniform(0, 1), "c": choice([{"x": uniform(0, 1)}, 2])}
    for constant in (False, True):
        plan = Plan(space, num_samples=5, seed=3, constant=constant)
        forward = [plan.variant(k) for k in range(10)]
        other = pickle.loads(pickle.dumps(Plan(space, num_samples=50, seed=3, constant=constant)))
        assert [other.variant(k) for k in reversed(range(10))] == forward[::-1]
        assert Plan(space, num_samples=5, seed=4, constant=constant).variant(0) != forward[0]


def test_what_is_drawn_is_written_down_for_ever():
    """Journals of experiments begun with an older release continue with these draws."""
    space = {"u": uniform(0, 1), "i": randint(0, 1000), "c": choice(["a", "b", "c"])}
    assert Plan(space, seed=42, num_samples=3).variant(2).config == {"u": 0.8236518371082204, "i": 605, "c": "a"}


def test_points_come_first_and_expand_over_open_grids():
    space = {"a": grid_search([1, 2, 3]), "b": grid_search([1, 2, 3]), "u": uniform(0, 1), "k": 5}
    found = configs(space, num_samples=6, points=[{"a": 1, "b": 2}, {"a": 1, "u": 0.5}, {"b": 2}])
    assert len(found) == 34
    assert [(c["a"], c["b"]) for c in found[:7]] == [(1, 2), (1, 1), (1, 2), (1, 3), (1, 2), (2, 2), (3, 2)]
    assert [c["u"] for c in found[1:4]] == [0.5] * 3
    assert all(c["k"] == 5 for c in found)


def test_points_may_name_parts_of_lists_and_dictionaries():
    space = {"n": {"x": uniform(0, 1), "y": 2}, "l": [uniform(0, 1), 3]}
    assert configs(space, points=[{"n": {"x": 0.25}, "l": [0.75, 3]}]) == [{"n": {"x": 0.25, "y": 2}, "l": [0.75, 3]}]


def test_points_that_do_not_fit():
    with pytest.raises(SearchSpaceError, match=r"n/z"):
        Plan({"n": {"x": 1}}, points=[{"n": {"z": 1}}])
    with pytest.warns(UserWarning, match="outside"):
        assert configs({"a": uniform(0, 1)}, points=[{"a": 7}]) == [{"a": 7}]
    with pytest.warns(UserWarning, match="outside"):
        assert configs({"a": uniform(0, 1)}, points=[{"a": "x"}]) == [{"a": "x"}]
    with pytest.warns(UserWarning, match="constant"):
        assert configs({"a": 1}, points=[{"a": 2}]) == [{"a": 2}]


def test_evaluated_holds_what_was_open():
    space = {"k": 1, "n": {"g": grid_search([2]), "l": [3, sample_from(lambda: 4)]}, "c": choice([{"d": randint(5, 6)}])}
    found = Plan(space).variant(0)
    assert found.evaluated == {"n/g": 2, "n/l/1": 4, "c": {"d": 5}, "c/d": 5}


def test_for_ever():
    plan = Plan({"a": grid_search([1, 2])}, num_samples=-1)
    assert plan.total is None
    assert plan.variant(10**6 + 1).config == {"a": 2}


def test_grids_inside_grid_values():
    inner = {"x": grid_search([1, 2]), "u": uniform(0, 1), "f": sample_from(lambda c: c["b"])}
    found = configs({"a": grid_search([inner, 9]), "b": grid_search([5, 6])})
    assert [(c["a"]["x"], c["a"]["f"], c["b"]) if c["a"] != 9 else (9, c["b"]) for c in found] == [
        (1, 5, 5), (2, 5, 5), (9, 5), (1, 6, 6), (2, 6, 6), (9, 6),
    ]  # fmt: skip


def test_functions_resolve_in_any_order():
    space = {
        "a": sample_from(lambda c: c["b"] + 1),
        "b": sample_from(lambda spec: spec.config.n.x * 2),
        "n": {"x": sample_from(lambda c: c["u"]["v"]), "y": sample_from(lambda spec: spec["config"]["a"])},
        "u": choice([{"v": randint(3, 4)}]),
    }
    assert configs(space) == [{"a": 7, "b": 6, "n": {"x": 3, "y": 7}, "u": {"v": 3}}]


def test_functions_may_return_domains():
    assert configs({"a": sample_from(lambda: {"x": randint(2, 3)}), "b": sample_from(lambda c: c["a"]["x"])}) == [
        {"a": {"x": 2}, "b": 2}
    ]


def test_functions_may_read_the_configuration_as_a_dictionary():
    space = {
        "k": 1,
        "n": {"x": 2},
        "f": sample_from(lambda c: (c.get("k"), c.get("zz", 9), "k" in c, "zz" in c, c.n.x)),
        "part": sample_from(lambda c: c["n"]),
    }
    found = configs(space)[0]
    assert found["f"] == (1, 9, True, False, 2)
    assert type(found["part"]) is dict
    assert found["part"] is not found["n"]


@pytest.mark.parametrize(
    "read",
    [
        lambda c: dict(c, k=1),
        json.dumps,
        lambda c: [*c],
        lambda c: {**c},
        lambda c: c.copy(),
        lambda c: c.get("b"),
        lambda c: c.config.b,
    ],
)
def test_a_circle_is_named(read):
    space = {"a": sample_from(read), "b": sample_from(lambda c: c["a"]), "u": uniform(0, 1)}
    with pytest.raises(SearchSpaceError, match=r"circle.*'b' needs 'a'"):
        configs(space)


def test_a_failing_function_is_named():
    for wrong in (lambda c: c["nix"], lambda c: c.nix, lambda: 1 / 0):
        with pytest.raises(SearchSpaceError, match="'f' failed") as caught:
            configs({"f": sample_from(wrong)})
        assert caught.value.__cause__ is not None


def test_functions_return_no_grids_and_no_endless_chains():
    with pytest.raises(SearchSpaceError, match="returned a grid"):
        configs({"f": sample_from(lambda: grid_search([1, 2]))})

    def again():
        return sample_from(again)

    with pytest.raises(SearchSpaceError, match="still open"):
        configs({"f": sample_from(again)})


def test_dictionaries_of_other_classes_keep_their_class():
    inner = OrderedDict(x=randint(2, 3))
    assert configs({"c": choice([inner]), "d": OrderedDict(y=grid_search([1]))}) == [
        {"c": OrderedDict(x=2), "d": OrderedDict(y=1)}
    ]
    assert type(inner["x"]).__name__ == "Integer"


def test_trials_share_no_containers_with_the_space():
    values = [{"x": [1]}]
    space = {"k": {"l": [1]}, "c": choice(values), "g": grid_search(values), "f": sample_from(lambda: values[0])}
    plan = Plan(space, constant=True, num_samples=2)
    config = plan.variant(0).config
    for key in ("c", "g", "f"):
        config[key]["x"].append(2)
    config["k"]["l"].append(2)
    assert space["k"] == {"l": [1]}
    assert values == [{"x": [1]}]
    assert plan.variant(0).config["c"] == {"x": [1]}
