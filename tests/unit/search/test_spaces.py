from __future__ import annotations

import math
import pickle
import random
import statistics

import cloudpickle
import numpy as np
import pytest

import holdfast as tune
from holdfast.errors import SearchSpaceError
from holdfast.search.spaces import SearchSpace, holds_domains, seed_of
from holdfast.space import Domain, Float
from holdfast.space.variables import find_variables

EVERY_LAW = {
    "uniform": tune.uniform(-2, 3),
    "quniform": tune.quniform(-0.3, 0.9, 0.1),
    "loguniform": tune.loguniform(1e-5, 1e-1),
    "qloguniform": tune.qloguniform(0.01, 10, 0.01),
    "randn": tune.randn(5, 2),
    "qrandn": tune.qrandn(0, 10, 0.5),
    "randint": tune.randint(-3, 8),
    "qrandint": tune.qrandint(3, 31, 5),
    "lograndint": tune.lograndint(1, 1000),
    "qlograndint": tune.qlograndint(8, 128, 8),
    "choice": tune.choice(["a", "b", "c"]),
}


def space_of(space) -> SearchSpace:
    return SearchSpace(space, "TestSearch")


@pytest.mark.parametrize("name", EVERY_LAW)
def test_every_number_and_every_place_gives_a_value_that_the_domain_could_have_drawn(name) -> None:
    (leaf,) = space_of({"x": EVERY_LAW[name]}).leaves
    step = getattr(leaf.domain.get_sampler(), "q", None)
    lots = random.Random(name)
    found = [leaf.value(leaf.low), leaf.value(leaf.high), leaf.at(0.0), leaf.at(1.0)]
    for _ in range(200):
        number = lots.uniform(leaf.low, leaf.high) if leaf.kind == "float" else lots.randint(leaf.low, leaf.high)
        assert leaf.value(leaf.number(leaf.value(number))) == pytest.approx(leaf.value(number), rel=1e-9)
        found += [leaf.value(number), leaf.at(lots.random())]
    for value in found:
        if name == "choice":
            assert value in (0, 1, 2)
            continue
        assert leaf.domain.is_valid(value)
        assert type(value) is (int if "int" in name else float)
        if step is not None:
            assert math.isclose(value / step, round(value / step), abs_tol=1e-9)
        elif name in ("uniform", "loguniform", "randint", "lograndint"):
            assert value < leaf.domain.upper  # which does not belong to it


@pytest.mark.parametrize("name", [name for name in EVERY_LAW if name != "choice"])
def test_a_value_and_its_place_belong_together(name) -> None:
    (leaf,) = space_of({"x": EVERY_LAW[name]}).leaves
    lots = random.Random(name)
    for _ in range(100):
        value = EVERY_LAW[name].draw(lots)
        assert math.isclose(leaf.at(leaf.place(value)), value, rel_tol=1e-6, abs_tol=1e-9)
        assert 0 <= leaf.place(value) <= 1


def test_even_places_follow_the_law() -> None:
    (leaf,) = space_of({"x": tune.randn(5, 2)}).leaves
    values = [leaf.at((k + 0.5) / 10_000) for k in range(10_000)]
    assert statistics.mean(values) == pytest.approx(5, abs=0.01)
    assert statistics.stdev(values) == pytest.approx(2, abs=0.01)
    (leaf,) = space_of({"x": tune.loguniform(1e-4, 1)}).leaves
    assert leaf.at(0.5) == pytest.approx(1e-2)
    (leaf,) = space_of({"x": tune.choice(list("abcd"))}).leaves
    assert [leaf.at(place) for place in (0.0, 0.24, 0.26, 0.6, 0.99, 1.0)] == [0, 0, 1, 2, 3, 3]


def test_numbers_of_other_libraries_become_pythons_own() -> None:
    leaves = space_of({"i": tune.randint(0, 9), "f": tune.uniform(0, 1), "c": tune.choice([1, 2])}).by_name
    assert [
        type(leaves[name].value(number)) for name, number in (("i", np.int64(3)), ("f", np.float64(0.5)), ("c", np.int64(1)))
    ] == [
        int,
        float,
        int,
    ]


def test_a_nested_space_becomes_flat_and_whole_again() -> None:
    constant = [1, {"two": (3,)}]
    space = space_of(
        {
            "a": {"b": tune.uniform(0, 1), "c": "fixed"},
            "l": [tune.randint(0, 5), 7],
            "t": (1, {"u": tune.choice(["x", "y"])}),
            "k": constant,
        }
    )
    assert [leaf.name for leaf in space.leaves] == ["a/b", "l/0", "t/1/u"]
    config, evaluated = space.config({"a/b": 0.5, "l/0": 3, "t/1/u": 1})
    assert config == {"a": {"b": 0.5, "c": "fixed"}, "l": [3, 7], "t": (1, {"u": "y"}), "k": [1, {"two": (3,)}]}
    assert evaluated == {"a/b": 0.5, "l/0": 3, "t/1/u": "y"}
    assert config["k"] is not constant  # a trial that changes its configuration changes nobody else's
    assert space.values(config) == {"a/b": 0.5, "l/0": 3, "t/1/u": 1}


def test_a_category_opens_leaves_that_count_only_where_it_is_chosen() -> None:
    space = space_of(
        {
            "m": tune.choice(
                [{"kind": "tree", "depth": tune.randint(1, 9)}, {"kind": "net", "depth": tune.choice([tune.uniform(0, 1), 5])}]
            )
        }
    )
    assert [(leaf.name, leaf.path, leaf.needs) for leaf in space.leaves] == [
        ("m", ("m",), ()),
        ("m[0]/depth", ("m", "depth"), (("m", 0),)),
        ("m[1]/depth", ("m", "depth"), (("m", 1),)),
        ("m[1]/depth[0]", ("m", "depth"), (("m", 1), ("m[1]/depth", 0))),
    ]
    tree = space.config({"m": 0, "m[0]/depth": 4, "m[1]/depth": 0, "m[1]/depth[0]": 0.25})
    assert tree.config == {"m": {"kind": "tree", "depth": 4}}
    assert space.values(tree.config) == {"m": 0, "m[0]/depth": 4}
    net = space.config({"m": 1, "m[1]/depth": 0, "m[1]/depth[0]": 0.25})
    assert net.config == {"m": {"kind": "net", "depth": 0.25}}
    assert space.values(net.config) == {"m": 1, "m[1]/depth": 0, "m[1]/depth[0]": 0.25}
    assert space.config({"m": 1, "m[1]/depth": 1}).config == {"m": {"kind": "net", "depth": 5}}


def test_categories_may_be_any_objects_and_are_found_again_after_a_journey() -> None:
    scale = 3
    categories = [{"p": 1}, [1, 2], lambda x: x * scale, len, np.arange(3), float("nan"), 1, True, 1.0, None]
    space = space_of({"c": tune.choice(categories)})
    for index, category in enumerate(categories):
        config = space.config({"c": index}).config
        assert type(config["c"]) is type(category)
        assert space.values(config) == {"c": index}
        if index != 4:  # an array is equal to itself part by part, and has the same pickle
            assert space.values(pickle.loads(cloudpickle.dumps(config))) == {"c": index}
    assert space.values({"c": "none of them"}) == {}


def test_functions_are_called_when_the_values_are_there() -> None:
    space = space_of(
        {
            "x": tune.uniform(0, 1),
            "double": tune.sample_from(lambda spec: spec.config.x * 2),
            "more": tune.sample_from(lambda config: config["double"] + 1),
            "drawn": tune.sample_from(lambda: tune.randint(0, 10**9)),
        }
    )
    assert space.has_functions
    made = space.config({"x": 0.25}, seed_of(1, "t_00000"))
    assert (made.config["double"], made.config["more"]) == (0.5, 1.5)
    assert made.evaluated == made.config
    assert not list(find_variables(made.config)), "an unresolved value leaked"
    assert made.config == space.config({"x": 0.25}, seed_of(1, "t_00000")).config
    assert made.config["drawn"] != space.config({"x": 0.25}, seed_of(1, "t_00001")).config["drawn"]


class Fibonacci(Domain):
    pass


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"a": {"b": tune.grid_search([1, 2])}}, r"'a/b' is a grid_search: TestSearch .* Use choice.*BasicVariantGenerator"),
        ({"a": [{"grid_search": [1]}]}, r"'a/0' is a grid_search"),
        ({"a": tune.choice([1, tune.grid_search([1])])}, "grid"),
        ({"a": Fibonacci()}, "'a' is a Fibonacci, a domain of your own, which TestSearch"),
        ({"a": Float(None, 3)}, "'a' .* needs a lower and an upper bound"),
        ({"a/b": tune.uniform(0, 1), "a": {"b": tune.uniform(0, 1)}}, "Two places .* 'a/b'"),
        ([tune.uniform(0, 1)], "must be a dictionary"),
    ],
)
def test_what_cannot_be_searched_is_refused_by_name(space, says) -> None:
    with pytest.raises(SearchSpaceError, match=says):
        space_of(space)


def test_a_missing_value_is_refused_by_name() -> None:
    with pytest.raises(SearchSpaceError, match="TestSearch gave no value for 'b'"):
        space_of({"b": tune.uniform(0, 1)}).config({})


def test_a_value_without_a_place_is_refused_by_name() -> None:
    with pytest.raises(SearchSpaceError, match="'b' is searched in"):
        space_of({"b": tune.uniform(0, 1)}).leaves[0].number("text")


def test_a_point_may_be_a_part_and_is_tried_as_it_stands() -> None:
    space = space_of({"a": {"b": tune.uniform(0, 1), "c": tune.choice(["x", "y"])}, "q": tune.quniform(0, 1, 0.25), "k": 1})
    for point in ({"a": {"b": 0.5}, "q": 0.75}, {"a/b": 0.5, "q": 0.75}):
        read = space.point(point)
        assert read.values == {"a/b": 0.5, "q": 0.75}
        assert space.config({"a/c": 0, **read.values}, 0, read.template).config == {"a": {"b": 0.5, "c": "x"}, "q": 0.75, "k": 1}
    read = space.point({"q": 0.33})
    values = {"a/b": 0.5, "a/c": 1, "q": space.by_name["q"].value(space.by_name["q"].number(0.33))}
    assert values["q"] == 0.25  # what the optimizer learns of
    assert space.config(values, 0, read.template).config["q"] == 0.33
    with pytest.warns(UserWarning, match=r"'a/b' the value 7, which is not in Float\(0, 1\)"):
        read = space.point({"a": {"b": 7}})
    assert space.by_name["a/b"].number(read.values["a/b"]) == 1
    assert space.config({**values, "a/b": 0.5}, 0, read.template).config["a"]["b"] == 7


def test_a_point_may_fix_a_nested_category_or_a_functions_value() -> None:
    space = space_of({"m": tune.choice([{"k": tune.uniform(0, 1)}, {"j": 2}]), "f": tune.sample_from(lambda: 1)})
    read = space.point({"m": {"k": 0.5}, "f": 9})
    assert read.values == {"m": 0, "m[0]/k": 0.5}
    assert space.config(read.values, 0, read.template).config == {"m": {"k": 0.5}, "f": 9}


@pytest.mark.parametrize(
    ("point", "says"),
    [
        ({"z": 1}, r"\['z'\], unknown to the space"),
        ({"a": {"z": 1}}, r"\['a/z'\], unknown"),
        ({"l/0": 1}, "Give the list as a whole"),
        ({"a": {"b": tune.uniform(0, 1)}}, "'a/b' no value"),
        ("x", "each must be a dictionary"),
    ],
)
def test_a_point_that_names_what_is_not_there_is_refused(point, says) -> None:
    space = space_of({"a": {"b": tune.uniform(0, 1)}, "l": [tune.uniform(0, 1)]})
    with pytest.raises(SearchSpaceError, match=says):
        space.point(point)


def test_the_way_back_leaves_out_what_is_no_number_or_not_there() -> None:
    space = space_of({"a": tune.uniform(0, 1), "b": tune.uniform(0, 1), "c": tune.randint(0, 3), "d": tune.uniform(0, 1)})
    assert space.values({"a": math.nan, "b": "text", "c": 2, "other": 5}) == {"c": 2}


def test_who_says_domains_is_told_from_who_says_something_else() -> None:
    assert holds_domains({"a": {"b": tune.uniform(0, 1)}})
    assert not holds_domains({"a": 1})
    assert not holds_domains(len)
