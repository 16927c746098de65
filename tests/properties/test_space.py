from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.search.variants import Plan
from holdfast.space import choice, count_variants, grid_search, loguniform, qrandint, randint, sample_from, uniform
from holdfast.space.variables import find_variables

drawn = st.sampled_from([uniform(0, 1), loguniform(1e-3, 1), randint(0, 5), qrandint(0, 9, 3), sample_from(lambda: 7)])
keys = st.sampled_from(["a", "b", "c", 1, 2])


def spaces(grids):
    leaves = st.integers() | drawn | st.lists(st.integers(), min_size=1, max_size=3).map(choice)
    if grids:
        leaves |= st.lists(st.integers(), min_size=1, max_size=3).map(grid_search)
    return st.recursive(
        leaves,
        lambda inner: (
            st.dictionaries(keys, inner, max_size=3)
            | st.lists(inner, max_size=2)
            | st.lists(inner, max_size=2).map(tuple)
            | (
                st.lists(inner, min_size=1, max_size=2).map(grid_search)
                if grids
                else st.lists(inner, min_size=1, max_size=2).map(choice)
            )
        ),
        max_leaves=5,
    )


whole = st.dictionaries(keys, spaces(grids=True) | spaces(grids=False), max_size=3)


@given(whole, st.integers(1, 2), st.booleans(), st.integers(0, 2**64))
def test_every_variant_is_resolved_and_repeats(space, num_samples, constant, seed):
    plan = Plan(space, num_samples=num_samples, constant=constant, seed=seed)
    assert plan.total == count_variants(space, num_samples)
    numbers = range(min(plan.total, 12))
    found = [plan.variant(number) for number in numbers]
    again = Plan(space, num_samples=num_samples, constant=constant, seed=seed)
    assert [again.variant(number) for number in reversed(numbers)] == found[::-1]
    for config, evaluated in found:
        assert not list(find_variables(config))
        assert not list(find_variables(evaluated))
        assert list(config) == list(space)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_grid_meets_every_combination_once(sizes):
    space = {f"k{i}": grid_search(range(size)) for i, size in enumerate(sizes)}
    plan = Plan(space)
    found = [tuple(plan.variant(number).config.values()) for number in range(plan.total)]
    assert len(set(found)) == len(found) == plan.total
    assert found == sorted(found, key=lambda values: values[::-1])
