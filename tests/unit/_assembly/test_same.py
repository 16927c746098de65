from __future__ import annotations

import pytest

from holdfast._assembly.same import same_job
from holdfast._assembly.submission import JobSpec, drafted, give_birth
from holdfast._core.events import ExperimentCreated
from holdfast.config import RunConfig, TuneConfig
from holdfast.errors import ConfigError, JobChanged, NotSerializable, SearchSpaceError
from holdfast.objects import put, references_in
from holdfast.space import choice, grid_search, sample_from, uniform
from holdfast.storage.definitions import Definitions
from holdfast.testing.disk import SimulatedStorage
from holdfast.values import Reference


def train(config):
    yield {"score": 1}


def draft(space):
    return drafted(train, space, TuneConfig(), RunConfig(name="exp"))


def born(space) -> tuple[JobSpec, ExperimentCreated]:
    """A job as it comes back from disk, in a process that knows nothing of its references."""
    disk = SimulatedStorage()
    created = give_birth(disk, draft(space))
    assert created is not None
    return Definitions(disk).fresh(created.definitions["job"]), created


class Thing:
    """Compares by identity, and shows its address."""


def test_objects_take_the_places_of_the_stored_ones() -> None:
    spec, created = born({"data": Thing(), "x": uniform(0, 1), "deep": {"n": 1}, "one": choice([Thing(), 3])})
    fresh, other = Thing(), Thing()
    again = same_job({"data": fresh, "x": uniform(0, 1), "deep": {"n": 1}, "one": choice([other, 3])}, spec, created)
    assert again.param_space["data"] is fresh
    assert again.param_space["one"].categories[0] is other


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"x": 1}, {"x": 1.0}, "x: 1 became 1.0"),
        ({"x": (1, 2)}, {"x": [1, 2]}, "became"),
        ({"x": uniform(0, 1)}, {"x": 0.5}, "became 0.5"),
        ({"x": uniform(0, 1)}, {"x": uniform(0, 1).quantized(0.1)}, "became"),
        ({"x": grid_search([1, 2])}, {"x": grid_search([1, 2, 3])}, "became"),
        ({"x": choice(["a"])}, {"x": choice(["b"])}, "became"),
        ({"x": choice(["a"])}, {"x": choice(["a", "b"])}, "became"),
        ({"x": choice(["a"])}, {"x": uniform(0, 1)}, "became"),
        ({"x": {"y": 1}}, {"x": 1}, r"added \['x'\], missing \['x/y'\]"),
    ],
)
def test_a_difference_is_named(before, after, words: str) -> None:
    spec, created = born(before)
    with pytest.raises(JobChanged, match=words):
        same_job(after, spec, created)


def test_no_dictionary() -> None:
    spec, created = born({"x": 1})
    with pytest.raises(ConfigError, match="must be a dictionary, not int"):
        same_job(3, spec, created)


def with_references() -> dict:
    return {"a": put(1), "b": choice([put(2), "none"]), "c": grid_search([put(3), put(4)]), "d": {"e": [0, put(5)]}}


PLACES = ["a", "b[0]", "c[0]", "c[1]", "d/e[1]"]


def test_references_are_stored_by_place_and_taken_from_the_space_given_again() -> None:
    spec, created = born(with_references())
    stored = references_in(spec.param_space)
    assert list(stored) == PLACES
    assert all(type(reference) is Reference for reference in stored.values())
    fresh = with_references()
    again = references_in(same_job(fresh, spec, created).param_space)
    assert list(again) == PLACES
    assert again["a"] == fresh["a"]
    assert [reference.place for reference in again.values()] == PLACES


@pytest.mark.parametrize(
    ("key", "value"), [("a", 1), ("b", choice([2, "none"])), ("c", grid_search([3, 4])), ("d", {"e": [0, 5]})]
)
def test_only_a_reference_stands_for_a_reference(key: str, value) -> None:
    spec, created = born(with_references())
    with pytest.raises(JobChanged, match=rf"at {key}.*ObjectRef\({key}"):
        same_job({**with_references(), key: value}, spec, created)


def test_a_reference_that_leads_nowhere_is_none_that_is_given_again() -> None:
    spec, created = born({"a": put(1)})
    with pytest.raises(SearchSpaceError, match=r"ObjectRef\(a\) at 'a', which leads nowhere"):
        same_job(spec.param_space, spec, created)


@pytest.mark.parametrize("hide", [lambda it: sample_from(lambda: it), lambda it: {it}, lambda it: [{1: {it}}]])
def test_a_reference_without_a_place_is_refused_before_anything_is_written(hide) -> None:
    with pytest.raises(NotSerializable, match=r"param_space\['deep/x'\].*An ObjectRef has no place in param_space"):
        draft({"deep": {"x": hide(put(1))}})
