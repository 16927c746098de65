from __future__ import annotations

import math
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest

from holdfast import space
from holdfast.errors import SearchSpaceError
from holdfast.space import Categorical, Domain, Float, Function, Integer

DOMAINS = {
    "uniform": (space.uniform(1, 3), lambda v: 1 <= v < 3),
    "quniform": (space.quniform(0.1, 0.9, 0.1), lambda v: 0.1 <= v <= 0.9 and math.isclose(v * 10, round(v * 10))),
    "loguniform": (space.loguniform(1e-4, 1e-1), lambda v: 1e-4 <= v < 1e-1),
    "qloguniform": (space.qloguniform(0.5, 8, 0.5), lambda v: 0.5 <= v <= 8 and v % 0.5 == 0),
    "randn": (space.randn(10, 2), lambda v: -10 < v < 30),
    "qrandn": (space.qrandn(0, 5, 0.5), lambda v: v % 0.5 == 0),
    "randint": (space.randint(-2, 3), lambda v: -2 <= v < 3),
    "qrandint": (space.qrandint(0, 9, 3), lambda v: v in (0, 3, 6, 9)),
    "qrandint1": (space.qrandint(0, 3), lambda v: v in (0, 1, 2)),
    "qrandint_unfit": (space.qrandint(1, 10, 4), lambda v: v in (4, 8)),
    "lograndint": (space.lograndint(1, 100), lambda v: 1 <= v < 100),
    "qlograndint": (space.qlograndint(2, 64, 2), lambda v: 2 <= v <= 64 and v % 2 == 0),
    "choice": (space.choice(["a", "b"]), lambda v: v in ("a", "b")),
    "huge": (space.randint(0, 10**40), lambda v: 0 <= v < 10**40),
}


@pytest.mark.parametrize("name", DOMAINS)
def test_draws_lie_in_the_domain_and_repeat(name):
    domain, inside = DOMAINS[name]
    values = domain.sample(size=400, random_state=7)
    assert all(map(inside, values))
    assert all(map(domain.is_valid, values))
    assert domain.sample(size=400, random_state=7) == values
    assert pickle.loads(pickle.dumps(domain)).sample(size=400, random_state=7) == values
    kind = int if isinstance(domain, Integer) else float if isinstance(domain, Float) else str
    assert {type(value) for value in values} == {kind}


class Edge:
    """The greatest number that a source can give."""

    def random(self):
        return 1 - 2**-53


@pytest.mark.parametrize("name", DOMAINS)
def test_the_last_number_of_a_source_stays_inside(name):
    domain, inside = DOMAINS[name]
    assert inside(domain.sample(random_state=Edge()))


@pytest.mark.parametrize(
    "source",
    [random.Random(3), np.random.RandomState(3), np.random.default_rng(3), 3, np.int64(3), None],
    ids=lambda s: type(s).__name__,
)
def test_every_kind_of_random_state(source):
    values = space.randint(0, 4).sample(size=200, random_state=source)
    assert set(values) == {0, 1, 2, 3}


def test_numpys_global_seed_repeats():
    np.random.seed(4)
    one = space.uniform(0, 1).sample(size=5)
    np.random.seed(4)
    assert space.uniform(0, 1).sample(size=5) == one


def test_a_random_state_that_is_none():
    with pytest.raises(SearchSpaceError, match="random_state"):
        space.uniform(0, 1).sample(random_state="x")


def test_laws_have_their_shape():
    seed = 11
    n = 20_000
    normal = space.randn(5, 2).sample(size=n, random_state=seed)
    mean = sum(normal) / n
    assert abs(mean - 5) < 0.1
    assert abs(math.sqrt(sum((v - mean) ** 2 for v in normal) / n) - 2) < 0.1
    logs = [math.log10(v) for v in space.loguniform(1e-4, 1).sample(size=n, random_state=seed)]
    assert abs(sum(logs) / n + 2) < 0.05
    counts = [space.randint(0, 3).sample(size=n, random_state=seed).count(k) / n for k in range(3)]
    assert all(abs(share - 1 / 3) < 0.02 for share in counts)
    steps = space.qrandint(0, 4, 2).sample(size=n, random_state=seed)
    assert all(abs(steps.count(k) / n - 1 / 3) < 0.02 for k in (0, 2, 4))


@pytest.mark.parametrize(
    "make",
    [
        lambda: space.uniform(1, 1),
        lambda: space.uniform(2, 1),
        lambda: space.uniform(math.nan, 1),
        lambda: space.uniform("a", 1),
        lambda: space.uniform(0, math.inf),
        lambda: space.loguniform(0, 1),
        lambda: space.loguniform(-1, 1),
        lambda: space.lograndint(0, 5),
        lambda: space.quniform(0.05, 1, 0.1),
        lambda: space.quniform(0, 1, 0.3),
        lambda: space.quniform(0, 1, 0),
        lambda: space.qrandint(1, 3, 5),
        lambda: space.qrandint(1, 3, 0.5),
        lambda: space.randint(1.5, 3),
        lambda: space.randint(3, 3),
        lambda: space.randn(0, 0),
        lambda: space.randn(math.inf, 1),
        lambda: Float(0, 1).normal(),
        lambda: space.choice([]),
        lambda: space.choice("abc"),
        lambda: space.choice(3),
        lambda: space.grid_search([]),
        lambda: space.grid_search(3),
        lambda: space.grid_search("ab"),
        lambda: space.sample_from(lambda a, b: 1),
        lambda: space.sample_from(3),
        lambda: space.uniform(0, 1).uniform(),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(SearchSpaceError) as caught:
        make()
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) > 20


def test_base_is_deprecated():
    with pytest.warns(DeprecationWarning, match="base"):
        space.loguniform(1, 2, base=10)


def test_functions_take_nothing_or_the_configuration():
    assert space.sample_from(lambda: 3).sample() == 3
    assert space.sample_from(lambda config: config["a"]).sample({"a": 4}) == 4
    assert space.sample_from(lambda *args: len(args)).sample({}) == 1
    assert Function(lambda config: config).sample([1, 2], size=2) == [1, 2]


def test_a_domain_knows_itself():
    assert repr(space.uniform(0, 1)) == "Float(0, 1), uniform"
    assert "choice" not in space.choice([1]).domain_str
    grid = Categorical([1, 2]).grid()
    assert grid.is_grid()
    assert not space.choice([1]).is_grid()
    assert len(grid) == 2
    assert grid[1] == 2
    assert space.sample_from(len).is_function()
    assert space.randint(0, 3).cast(2.0) == 2
    with pytest.raises(SearchSpaceError, match="law already"):
        space.uniform(0, 1).set_sampler(object())
    with pytest.raises(NotImplementedError):
        Domain().sample()
    with pytest.raises(SearchSpaceError, match="grid"):
        grid.sample()


def test_numpy_is_not_imported():
    code = "import sys, holdfast.space as s; s.uniform(0, 1).sample(); assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
