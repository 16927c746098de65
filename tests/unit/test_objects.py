from __future__ import annotations

import copy
import functools
import gc
import os
import pickle
import subprocess
import sys
import types
import weakref
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from holdfast import objects, values
from holdfast.errors import ConfigError, NotSerializable, ObjectLost, SearchSpaceError, StorageError
from holdfast.objects import ObjectRef, get, placed, put, reference_at, references_in, supplying, with_parameters
from holdfast.resources import with_resources
from holdfast.space import choice, grid_search, uniform
from holdfast.testing.census import memory_files
from holdfast.values import Reference


class Column:
    """Gives its bytes away when it is pickled."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Column, (pickle.PickleBuffer(self.data),)


def held() -> int:
    """How many objects this process has in memory."""
    gc.collect()
    return len(memory_files([os.getpid()]))


def elsewhere(code: str, *values_: object) -> str:
    """What code prints in another process that has the values in `given`."""
    script = f"import pickle, sys\nfrom holdfast import *\ngiven = pickle.loads(sys.stdin.buffer.read())\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", script], input=cloudpickle.dumps(values_), capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


class TestPutAndGet:
    @pytest.mark.parametrize(
        "value", [None, 0, "text", b"bytes", [1, {"a": (2,)}], {1, 2}, "x" * 1_000_000], ids=lambda value: repr(value)[:20]
    )
    def test_what_was_put_comes_back(self, value: object) -> None:
        assert get(put(value)) == value
        assert elsewhere("print(hash(repr(get(given[0]))) == hash(repr(given[1])))", put(value), value) == "True"

    def test_ordinary_objects_are_each_readers_own(self) -> None:
        reference = put({"a": []})
        get(reference)["a"].append(1)
        assert get(reference) == {"a": []}

    def test_a_list_of_references(self) -> None:
        assert get([put(1), put("b")]) == [1, "b"]
        assert get([]) == []

    @pytest.mark.parametrize(
        "array",
        [
            np.arange(12.0).reshape(3, 4),
            np.asfortranarray(np.arange(12.0).reshape(3, 4)),
            np.zeros((0, 3)),
            np.array(3),
            np.arange(10)[::2],
            np.array(["a", "bc"]),
            np.array([(1, 2.5)], dtype=[("n", "i4"), ("x", "f8")]),
            np.array([{"any": "thing"}], dtype=object),
        ],
        ids=lambda array: f"{array.dtype.kind}{array.shape}",
    )
    def test_arrays_of_every_kind(self, array: np.ndarray) -> None:
        back = get(put({"a": array, "again": array}))
        assert back["a"].dtype == array.dtype and back["a"].shape == array.shape and (back["a"] == array).all()
        assert back["again"] is back["a"]

    def test_arrays_are_views_of_one_memory_and_read_only(self) -> None:
        reference = put([np.arange(1000), np.ones(1000)])
        first, second = get(reference), get(reference)
        assert [part.ctypes.data for part in first] == [part.ctypes.data for part in second]
        assert all(part.ctypes.data % 64 == 0 for part in first)
        with pytest.raises(ValueError, match="read-only"):
            first[0][0] = 7
        told = elsewhere("a = get(given[0])[0]; b = get(given[0])[0]; print(a.sum(), a.flags.writeable, a is b)", reference)
        assert told == "499500 False False"

    def test_a_process_maps_an_object_once(self) -> None:
        code = (
            "import os; kept = [get(one) for one in pickle.loads(pickle.dumps([given[0], given[0], given[1]]))]\n"
            "print(sum('holdfast-object' in line for line in open('/proc/self/maps')))"
        )
        reference = put(np.ones(5000))
        assert elsewhere(code, reference, copy.copy(reference)) == "1"

    def test_many_buffers(self) -> None:
        arrays = [np.full(3, number) for number in range(5000)]
        reference = put(arrays)
        assert len(pickle.dumps(reference)) < 500
        assert all(map(np.array_equal, get(reference), arrays))

    def test_more_than_a_single_write_takes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("holdfast.storage.nameless._AT_ONCE", 1000)
        assert np.array_equal(get(put(np.arange(12345))), np.arange(12345))

    def test_whoever_gives_its_buffers_away_shares_them(self) -> None:
        """As Arrow's tables do."""
        back = get(put(Column(b"x" * 1000)))
        assert isinstance(back.data, memoryview) and back.data.readonly and bytes(back.data) == b"x" * 1000
        with pytest.raises(TypeError):
            back.data[0] = 1

    @pytest.mark.parametrize("given", [1, "x", (put(1),), {"a": 1}, None])
    def test_get_of_no_reference(self, given: object) -> None:
        with pytest.raises(ConfigError, match="takes an ObjectRef or a list"):
            get(given)

    def test_put_of_a_reference(self) -> None:
        with pytest.raises(ConfigError, match="Use it as it is"):
            put(put(1))

    def test_put_of_what_has_no_pickle(self) -> None:
        with pytest.raises(NotSerializable, match=r"cannot pickle a .*generator"):
            put(number for number in range(3))

    def test_modules_that_a_trial_will_need_stand_in_the_references_pickle(self) -> None:
        assert b"numpy" in cloudpickle.dumps(put(np.ones(3)))
        assert b"numpy" not in cloudpickle.dumps(put([1, 2]))


class TestLife:
    def test_it_is_freed_with_the_last_reference(self) -> None:
        before = held()
        reference = put(np.ones(1000))
        other = copy.deepcopy(reference)
        assert held() == before + 1
        del reference
        assert held() == before + 1
        assert get(other).sum() == 1000
        del other
        assert held() == before

    def test_arrays_outlive_the_references(self) -> None:
        before = held()
        array = get(put(np.ones(1000)))
        assert held() == before + 1
        assert array.sum() == 1000
        del array
        assert held() == before

    def test_a_pickled_reference_holds_nothing_until_it_is_loaded(self) -> None:
        before = held()
        reference = put(1)
        data = pickle.dumps(reference)
        again = pickle.loads(data)
        del reference
        assert get(again) == 1
        del again
        assert held() == before
        with pytest.raises(ObjectLost, match="Put it again"):
            get(pickle.loads(data))

    def test_a_descriptor_that_is_something_else_by_now_is_never_taken_for_the_object(self) -> None:
        reference = put(np.ones(1000))
        data = pickle.dumps(reference)
        del reference
        others = [put(np.zeros(1000)) for _ in range(3)]  # one of them has its descriptor
        with pytest.raises(ObjectLost):
            get(pickle.loads(data))
        assert "ObjectLost" in elsewhere("try: get(pickle.loads(given[0]))\nexcept Exception as e: print(type(e).__name__)", data)
        assert len(others) == 3

    def test_the_driver_is_dead(self) -> None:
        data = bytes.fromhex(elsewhere("print(pickle.dumps(put(1)).hex())"))
        with pytest.raises(ObjectLost, match=r"in process \d+ .*Put it again.*Tuner\.restore\(path, trainable, param_space="):
            get(pickle.loads(data))

    def test_a_forked_child_reads_what_its_parent_put(self) -> None:
        reference = put(np.arange(10))
        pid = os.fork()
        if pid == 0:
            os._exit(int(get(reference).sum()))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 45
        assert get(reference).sum() == 45

    def test_nobody_can_change_or_cut_it(self) -> None:
        code = "import os; fd = os.open(given[0], os.O_RDWR)\n" + "".join(
            f"try: {attempt}\nexcept PermissionError: print('refused')\n"
            for attempt in ("os.ftruncate(fd, 0)", "os.pwrite(fd, b'x', 0)", "os.ftruncate(fd, 1 << 20)")
        )
        reference = put(np.ones(1000))
        _, (pid, descriptor, *_) = reference.__reduce__()
        path = f"/proc/{pid}/fd/{descriptor}"
        assert elsewhere(code, path).split() == ["refused"] * 3
        assert get(reference).sum() == 1000


class TestRoom:
    """Where memory has no room, a disk has; where none has, an error says so."""

    @pytest.fixture
    def no_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "memfd_create")

    def test_without_memory_files_it_goes_to_disk_and_leaves_no_name(
        self, no_memory: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        reference = put(np.arange(1000))
        assert list(tmp_path.iterdir()) == []
        assert elsewhere("print(get(given[0]).sum())", reference) == "499500"
        assert get(reference).sum() == 499500

    def test_a_folder_without_room_gives_way_to_the_next(
        self, no_memory: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
        monkeypatch.setenv("HOLDFAST_RESULTS_DIR", str(tmp_path))
        assert get(put("x")) == "x"

    def test_no_room_anywhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before, sparse = held(), tmp_path / "sparse"
        with sparse.open("wb") as file:
            file.truncate(1 << 42)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setenv("HOLDFAST_RESULTS_DIR", str(tmp_path))
        huge = np.memmap(sparse, mode="r")
        with pytest.raises(StorageError, match=r"no room for an object of 4,398,.* bytes \(memory: .* bytes are left.*TMPDIR"):
            put(np.frombuffer(huge.data, np.uint8))
        assert held() == before

    def test_a_limit_on_the_size_of_files_is_an_error_and_no_signal(self) -> None:
        code = (
            "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))\n"
            "try: put(b'x' * 20000)\nexcept OSError as error: print(type(error).__name__, error)\nprint(get(put(b'x' * 100))[:1])"
        )
        told = elsewhere(code).splitlines()
        assert told[0].startswith("StorageError There is no room for an object of 20,")
        assert told[1] == "b'x'"


class TestPlaces:
    def space(self) -> dict:
        return {
            "a": put(1),
            "b": choice([put(2), {"deep": put(3)}]),
            "c": grid_search([put(4), [put(5)]]),
            "d": {"e": (0, put(6))},
            "x": uniform(0, 1),
        }

    def test_each_reference_knows_its_place_and_the_given_space_is_as_before(self) -> None:
        space = self.space()
        found = references_in(placed(space))
        assert list(found) == ["a", "b[0]", "b[1]/deep", "c[0]", "c[1][0]", "d/e[1]"]
        assert [reference.place for reference in found.values()] == list(found)
        assert get(list(found.values())) == [1, 2, 3, 4, 5, 6]
        assert space["a"].place == "" and space["b"].categories[0].place == ""
        assert found["a"] == space["a"]
        assert repr(found["b[0]"]) == "ObjectRef(b[0])"

    def test_a_space_without_references_is_left_alone(self) -> None:
        space = {"x": uniform(0, 1), "l": [1, {"a": grid_search([1])}]}
        assert placed(space) is space

    def test_one_reference_may_stand_in_several_places(self) -> None:
        one = put(1)
        found = references_in(placed({"a": one, "b": [one, one]}))
        assert list(found) == ["a", "b[0]", "b[1]"]
        assert len({*found.values(), one}) == 1

    def test_two_references_in_one_place(self) -> None:
        with pytest.raises(SearchSpaceError, match="two references at 'a/b'"):
            placed({"a/b": put(1), "a": {"b": put(2)}})

    def test_they_are_pickled_by_place_where_told_and_revived_as_supplied(self) -> None:
        [reference] = references_in(placed({"m": put(1)})).values()
        data = values.pickled([reference])
        assert len(data) < 100
        [bare] = pickle.loads(data)
        assert type(bare) is Reference and bare.place == "m"
        with supplying({"m": reference}):
            assert pickle.loads(data) == [reference]
        assert type(reference_at("m")) is Reference
        with pytest.raises(ObjectLost, match=r"stood at 'm' of param_space.*Tuner\.restore"):
            get(bare)
        with pytest.raises(NotSerializable, match="has no place"):
            values.pickled(put(1))

    def test_pickled_otherwise_they_lead_to_the_object_with_their_place(self) -> None:
        [reference] = references_in(placed({"m": put(1)})).values()
        again = pickle.loads(pickle.dumps(reference))
        assert (again, again.place, get(again)) == (reference, "m", 1)


def train(config, data=None, more=None):
    return config, data, more


class Net:
    """A class trainable, as far as this is concerned."""

    def __init__(self, config):
        self.setup(config)

    def setup(self, config, data=None, more=None):
        self.got = config, data, more


class TestWithParameters:
    def test_a_function(self) -> None:
        wrapped = with_parameters(train, data=[1], more=np.ones(3))
        config, data, more = wrapped({"x": 1})
        assert (config, data, more.sum()) == ({"x": 1}, [1], 3)
        data.append(2)
        assert wrapped({})[1] == [1]
        assert wrapped._name == "train"
        assert train({}) == ({}, None, None)

    def test_a_class(self) -> None:
        wrapped = with_parameters(Net, data=[1])
        assert issubclass(wrapped, Net) and wrapped.__name__ == "Net" and wrapped.__doc__ == Net.__doc__
        assert wrapped({"x": 1}).got == ({"x": 1}, [1], None)
        assert Net({}).got == ({}, None, None)

    @pytest.mark.parametrize(
        "wrapped", [with_parameters(train, data="a" * 1_000_000), with_parameters(Net, data="a" * 1_000_000)]
    )
    def test_the_pickle_is_small_and_works_elsewhere(self, wrapped) -> None:
        assert len(cloudpickle.dumps(wrapped)) < 10_000
        assert elsewhere("got = given[0]({}); print(len(getattr(got, 'got', got)[1]))", wrapped) == "1000000"

    def test_partials_methods_and_callables(self) -> None:
        class Called:
            def __call__(self, config, data):
                return data

            def method(self, config, data):
                return data

        for trainable, name in (
            (functools.partial(train, more=2), "train"),
            (Called().method, "method"),
            (Called(), "Called"),
        ):
            wrapped = with_parameters(trainable, data=1)
            assert wrapped._name == name
            assert wrapped({}) in (1, ({}, 1, 2))
        assert functools.partial(with_parameters(train, data=1), more=2)({}) == ({}, 1, 2)

    @pytest.mark.parametrize("trainable", [train, Net])
    def test_it_nests_with_itself_and_with_resources(self, trainable) -> None:
        twice = with_parameters(with_parameters(trainable, data=1), more=2)
        assert getattr(twice({}), "got", twice({})) == ({}, 1, 2)
        for both in (
            with_parameters(with_resources(trainable, {"cpu": 2}), data=1),
            with_resources(with_parameters(trainable, data=1), {"cpu": 2}),
        ):
            again = cloudpickle.loads(cloudpickle.dumps(both))
            assert getattr(again({}), "got", again({})) == ({}, 1, None)
            assert again._holdfast_resources.asked.amounts == {"cpu": 2.0}
            assert getattr(again, "_name", again.__name__ if isinstance(again, type) else None) == trainable.__name__

    def test_a_name_of_its_own_is_kept(self) -> None:
        def own(config, data):
            return data

        own._name = "mine"
        assert with_parameters(own, data=1)._name == "mine"

    def test_a_module_whose_name_for_the_trainable_is_the_wrapped_one_is_not_run_again(self) -> None:
        """By reference the worker would import the module, and put the object once more."""
        module = types.ModuleType("rebinding")
        sys.modules["rebinding"] = module
        try:
            exec(
                "def train(config, data): return data\nclass Net:\n    def setup(self, config, data): self.got = data",
                vars(module),
            )
            for name in ("train", "Net"):
                setattr(module, name, with_parameters(getattr(module, name), data=5))
            data = cloudpickle.dumps([module.train, module.Net])
        finally:
            del sys.modules["rebinding"]
        loaded, cls = pickle.loads(data)
        instance = cls()
        instance.setup({})
        assert (loaded({}), instance.got) == (5, 5)

    def test_references_are_taken_as_they_are(self) -> None:
        reference, before = put("shared"), held()
        assert with_parameters(train, data=reference)({})[1] == "shared"
        assert held() == before

    def test_the_objects_go_with_the_trainable(self) -> None:
        before = held()
        wrapped, cls = with_parameters(train, data=1), with_parameters(Net, data=2)
        gone = weakref.ref(wrapped)
        assert held() == before + 2
        del wrapped, cls
        assert held() == before
        assert gone() is None

    @pytest.mark.parametrize(
        ("trainable", "words"),
        [
            ("train", "give a function"),
            (3, "give a function"),
            (int, "has a setup"),
            (lambda config: 1, r"takes \['config'\], not \['data'\]"),
            (type("Bare", (), {"setup": lambda self, config: None}), r"not \['data'\]"),
        ],
    )
    def test_what_cannot_take_an_object(self, trainable, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            with_parameters(trainable, data=1)

    def test_further_keywords_take_any(self) -> None:
        assert with_parameters(lambda config, **rest: rest, data=1)({}) == {"data": 1}


def test_equal_references_lead_to_one_object() -> None:
    one, other = put(1), put(1)
    assert one == copy.copy(one) and one != other and one != Reference("") and len({one, other, one.at("x")}) == 2
    assert isinstance(one, ObjectRef) and repr(one).startswith("ObjectRef(")


def test_only_its_names_are_public() -> None:
    assert {"ObjectRef", "get", "put", "with_parameters"} < set(objects.__all__)
