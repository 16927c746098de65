from __future__ import annotations

import enum
import json
import math
import os
import subprocess
import sys
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cloudpickle
import numpy as np
import pytest

from holdfast.errors import NotSerializable
from holdfast.values import Opaque, Reference, by_place, decode, encode, flatten, pickled, plain, unflatten


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Thing:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return isinstance(other, Thing) and self.x == other.x

    __hash__ = None


class Unprintable:
    def __str__(self):
        raise RuntimeError("no")


class Text(str):
    __slots__ = ()


class Point(NamedTuple):
    x: int
    y: int


class Shelf:
    """Keeps pickles by content, in memory."""

    def __init__(self):
        self.kept = {}

    def store(self, data):
        sha = sha256(data).hexdigest()
        self.kept[sha] = data
        return sha

    def load(self, sha):
        return cloudpickle.loads(self.kept[sha])


def same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, float):
        return math.copysign(1, one) == math.copysign(1, other) and (one == other or (math.isnan(one) and math.isnan(other)))
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True)
        return len(one) == len(other) and all(same(a, c) and same(b, d) for (a, b), (c, d) in pairs)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


EXACT = [
    {},
    [],
    (),
    set(),
    frozenset(),
    {"a": {}, "b": [], "c": ()},
    {"lr": 0.1, "layers": (1, 2)},
    {"n": None, "t": True, "f": False, "nan": math.nan, "inf": -math.inf, "z": -0.0},
    {1: True, 2: 0, 3: 1.0, True + 3: "four"},
    {(1, "a"): 1, None: 2, b"k": 3, 2.5: 4, frozenset({1}): 5, "s": 6},
    {"big": 2**64 - 1, "bigger": 2**64, "neg": -(2**63) - 1, "huge": -(10**400)},
    {"bytes": b"\x00\xff", "c": 1 + 2j, "p": Path("/a/b"), "e": Path()},
    ((((1,),),), [((),)]),
    {"s": {1, 2, ("x", None)}, "f": frozenset({frozenset({1})})},
    {"z": 1, "a": 2, "m": 3},
    {"surrogate \ud800": "\udcff", "é": "日本"},
    "\ud800",
    [np.float64(1.5), np.float32(0.1), np.int8(-3), np.bool_(True), np.complex64(1j), np.uint64(2**64 - 1)],
    [
        np.str_(""),
        np.str_("ab\x00"),
        np.bytes_(b"x\x00"),
        np.datetime64("2020-01-01", "ns"),
        np.timedelta64(3, "s"),
        np.longdouble("1.1"),
    ],
    [np.arange(6).reshape(2, 3), np.zeros((0, 3)), np.array(1.5), np.array(["a", "bcd"]), np.asfortranarray([[1, 2], [3, 4]])],
    [np.array([1, 2], dtype=">i4"), np.array([True, False]), np.array(["2020-01-01"], dtype="M8[D]")],
]


@pytest.mark.parametrize("value", EXACT, ids=lambda value: str(type(value).__name__))
def test_types_come_back(value):
    data = encode(value)
    assert same(decode(data), value)
    assert same(decode(data, Shelf().load), value)
    assert encode(decode(data)) == data


def test_dictionaries_keep_their_order():
    assert list(decode(encode({"z": 1, "a": (2,), "m": 3}))) == ["z", "a", "m"]
    assert list(decode(encode({3: 1, 1: 2, 2: 3}))) == [3, 1, 2]


def test_arrays_come_back_writable():
    back = decode(encode(np.arange(3)))
    back[0] = 7
    assert back.tolist() == [7, 1, 2]


@pytest.mark.parametrize(
    "value",
    [
        Color.RED,
        Level.LOW,
        Thing,
        Thing(3),
        Point(1, 2),
        OrderedDict(a=1),
        Text("x"),
        PurePosixPath("a"),
        len,
        np.dtype("f4"),
        np.float32,
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_objects_go_through_the_store(value):
    shelf = Shelf()
    data = encode({"x": value, "y": (value,)}, shelf.store)
    assert len(shelf.kept) == 1
    back = decode(data, shelf.load)
    assert type(back["x"]) is type(value)
    assert back["x"] == value
    assert back["y"] == (value,)


def test_keys_of_any_kind_go_through_the_store():
    shelf = Shelf()
    assert decode(encode({Color.RED: 1}, shelf.store), shelf.load) == {Color.RED: 1}


def test_closures_and_lambdas_are_carried():
    n = 5
    shelf = Shelf()
    assert decode(encode([lambda x: x + n], shelf.store), shelf.load)[0](1) == 6


def test_without_a_store_the_pickle_is_inlined_and_opened_only_for_who_loads():
    data = encode({"x": Thing(3)})
    looked = decode(data)["x"]
    assert isinstance(looked, Opaque)
    assert repr(looked).endswith("Thing>")
    assert decode(data, Shelf().load) == {"x": Thing(3)}


class Bomb:
    def __reduce__(self):
        return (os.abort, ())


def test_looking_never_unpickles():
    shelf = Shelf()
    assert repr(decode(encode(Bomb()))).endswith("Bomb>")
    assert repr(decode(encode((Bomb(),), shelf.store))[0]).endswith("Bomb>")


def test_an_opaque_is_a_value_like_others():
    shelf = Shelf()
    data = encode({"x": Thing(1)}, shelf.store)
    assert decode(data) == decode(data)
    assert len({decode(data)["x"], decode(data)["x"]}) == 1
    assert decode(data)["x"].sha in shelf.kept
    with pytest.raises(NotSerializable, match="stands in"):
        encode(decode(data))


def test_the_loader_s_own_error_comes_through():
    def load(sha):
        raise KeyError(sha)

    with pytest.raises(KeyError):
        decode(encode(Thing(1), Shelf().store), load)


def test_what_cannot_be_pickled_is_refused_by_name():
    with pytest.raises(NotSerializable, match=r"generator.*non-serializable"):
        encode({"g": (i for i in range(3))})


def test_a_value_that_holds_itself_is_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(NotSerializable, match="holds itself"):
        encode(loop)


def test_an_unknown_extension_is_named():
    import msgspec

    with pytest.raises(ValueError, match="newer holdfast"):
        decode(msgspec.msgpack.encode(msgspec.msgpack.Ext(99, msgspec.msgpack.encode([]))))


class Live(Reference):
    """A reference that leads somewhere."""


def test_references_are_written_by_place_and_come_back_as_what_stands_there():
    value = {"a": [Live("a[0]"), (Live("a[1]"),)], "t": Thing(1)}
    shelf, known = Shelf(), {"a[0]": Live("a[0]")}
    data = encode(value, shelf.store)
    assert data == encode({**value, "a": [Reference("a[0]"), (Reference("a[1]"),)]}, shelf.store)
    back = decode(data, shelf.load, known)
    assert back["a"][0] is known["a[0]"]
    assert back["a"][1] == (Reference("a[1]"),)
    for looked in (decode(data), decode(data, shelf.load)):
        assert looked["a"] == [Reference("a[0]"), (Reference("a[1]"),)]
    assert plain(back)["a"] == ["ObjectRef(a[0])", ["ObjectRef(a[1])"]]


def test_the_number_of_references_is_for_ever():
    assert encode(Reference("é")) == bytes([0xD5, 13]) + "é".encode()
    assert encode(Reference("m")) == bytes([0xD4, 13]) + b"m"


def test_a_reference_without_a_place_is_refused():
    for refused in (encode, pickled):
        with pytest.raises(NotSerializable, match="has no place in param_space"):
            refused([Thing(Nowhere("")) if refused is encode else Nowhere("")])


class Nowhere(Reference):
    """As a reference of a driver is pickled."""

    def __reduce__(self):
        assert by_place.get()
        return Reference, (self.named(),)


def test_a_reference_inside_an_object_is_pickled_by_place():
    shelf = Shelf()
    assert decode(encode(Thing(Nowhere("m")), shelf.store), shelf.load).x == Reference("m")
    assert not by_place.get()


def test_bare_references_compare_by_place():
    assert Reference("a") == Reference("a")
    assert len({Reference("a"), Reference("a"), Reference("b")}) == 2
    assert Reference("a") not in ("a", Live("a"))
    assert cloudpickle.loads(cloudpickle.dumps(Reference("a"))) == Reference("a")


def test_bytes_do_not_depend_on_the_hash_seed():
    code = "from holdfast.values import encode; print(encode({'s': {'a', 'b', 'c', 'd'}, 'f': frozenset('wxyz')}).hex())"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_neither_numpy_nor_cloudpickle_is_imported_for_plain_values():
    code = (
        "import sys; from holdfast.values import *; decode(encode({'a': (1, {2}), 'b': 'x'})); "
        "assert not {'numpy', 'cloudpickle', 'pickle', 'json'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plain_is_what_json_takes():
    value = {
        "a": (1, {2}),
        3: np.float32(0.5),
        "arr": np.arange(3),
        "p": Path("/x"),
        "e": Color.RED,
        "b": True,
        "n": None,
        "nan": math.nan,
        "in": {"c": np.array(1 + 2j), "u": Unprintable(), "point": Point(1, 2), "bytes": b"x"},
        "when": np.datetime64("2020-01-01", "D"),
        "long": np.longdouble(1),
    }
    shown = plain(value)
    json.dumps(shown)
    assert shown["a"] == [1, [2]]
    assert shown["3"] == 0.5
    assert shown["arr"] == [0, 1, 2]
    assert shown["p"] == "/x"
    assert shown["b"] is True
    assert math.isnan(shown["nan"])
    assert shown["in"]["u"].endswith("Unprintable>")
    assert shown["in"]["point"] == [1, 2]
    assert shown["when"] == "2020-01-01"


def test_plain_is_a_copy():
    row = {"a": 1}
    assert plain(row) == row
    assert plain(row) is not row


def test_plain_of_what_holds_itself_is_text():
    loop = {}
    loop["x"] = loop
    assert isinstance(plain(loop), str)


def test_flatten_and_back():
    nested = {"a": {"b": 1, "c": {"d": [1, {"x": 2}]}}, "e": 2}
    flat = flatten(nested)
    assert flat == {"a/b": 1, "a/c/d": [1, {"x": 2}], "e": 2}
    assert list(flat) == ["a/b", "a/c/d", "e"]
    assert unflatten(flat) == nested
    assert flatten({"a": {1: 2}}, ".") == {"a.1": 2}
    assert flatten({"a": {}, "b": 1}) == {"b": 1}


def test_unflatten_refuses_two_things_in_one_place():
    for flat in ({"a": 1, "a/b": 2}, {"a/b": 2, "a": 1}):
        with pytest.raises(ValueError, match="taken its place"):
            unflatten(flat)
