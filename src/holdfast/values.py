"""The value codec: users' configs and rows as bytes that give back the same values with the same types.

This module knows how a value is written down (msgpack, with extension types for what msgpack has no word for) and
how it is shown in files (`plain`). It refuses to know where bytes are kept: what must be pickled goes through the `store` and
`load` of the caller. Numbers of extension types are part of the journal's format: never change or reuse one.

NumPy is never imported here on the way in: a NumPy value can only be met where NumPy is already loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.errors import NotSerializable

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Opaque", "Reference", "by_place", "decode", "encode", "flatten", "pickled", "plain", "type_name", "unflatten"]

_TUPLE, _MAP, _BIG_INT, _COMPLEX, _SET, _FROZENSET = 1, 2, 3, 4, 5, 6
_NUMPY_SCALAR, _NUMPY_ARRAY, _PATH, _INLINED, _STORED, _TEXT, _REFERENCE = 7, 8, 9, 10, 11, 12, 13

_SCALARS = frozenset({float, int, str, bool, type(None)})
_KEYS = frozenset({str})
# Kinds whose dtype string says all about them: bool, (un)signed int, float, complex, bytes, text, timedelta, datetime.
_NUMPY_KINDS = frozenset("biufcSUmM")
_PATH_TYPE = type(Path())
_pack = msgspec.msgpack.Encoder().encode
_Ext = msgspec.msgpack.Ext

Store = Callable[[bytes], str]
Load = Callable[[str], object]


class Opaque:
    """Stands in for an object whose pickle was not opened: who only looks never runs a user's code.

    Attributes:
        type_name: What the object is, such as `my_module.MyClass`.
        sha: The sha256 of its pickle, in hexadecimal.
    """

    __slots__ = ("sha", "type_name")

    def __init__(self, type_name: str, sha: str) -> None:
        self.type_name = type_name
        self.sha = sha

    def __repr__(self) -> str:
        return f"<{self.type_name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and (self.type_name, self.sha) == (other.type_name, other.sha)

    def __hash__(self) -> int:
        return hash((self.type_name, self.sha))


class Reference:
    """What is on record of something that lives in a driver's memory only: its place in `param_space`. `ObjectRef` leads there.

    Attributes:
        place: Such as `model[0]`, the first of a choice or grid under the key `model`; empty for what stands in no space.
    """

    __slots__ = ("place",)

    def __init__(self, place: str) -> None:
        self.place = place

    def __repr__(self) -> str:
        return f"ObjectRef({self.place})"

    def __eq__(self, other: object) -> bool:
        return type(other) is Reference and type(self) is Reference and self.place == other.place

    def __hash__(self) -> int:
        return hash(self.place)

    def named(self) -> str:
        """Its place.

        Raises:
            NotSerializable: It has none, so nobody could find it again.
        """
        if not self.place:
            raise NotSerializable(
                "An ObjectRef has no place in param_space, so no restore could give it again. Put the reference itself there: "
                "plain, in a list, in a choice or in a grid_search. Plug-ins, callbacks and other objects cannot hold one."
            )
        return self.place


by_place: ContextVar[bool] = ContextVar("by_place", default=False)  # whether a pickle of a reference is its place; see `pickled`


def pickled(value: object) -> bytes:
    """The pickle of a value, with no more of a reference in it than its place; one without is refused as by `named`."""
    import cloudpickle

    before = by_place.set(True)
    try:
        data: bytes = cloudpickle.dumps(value)
    finally:
        by_place.reset(before)
    return data


def type_name(value: object) -> str:
    """The full name of a class or function, or of the class of any other object."""
    named = value if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")) else type(value)
    return f"{getattr(named, '__module__', None) or 'builtins'}.{getattr(named, '__qualname__', '?')}"


def encode(value: object, store: Store | None = None) -> bytes:
    """Writes a value down, with all its types.

    Kept exactly: None, bool, int of any size, float (NaN, inf, -0.0 too), complex, str, bytes, list, tuple, dict (any
    keys, order kept), set, frozenset, Path, NumPy scalars and arrays. Anything else, instances of subclasses of these
    included, is pickled by cloudpickle; of a `Reference` its place is kept. The same value gives the same bytes in each process
    (sets are sorted), as far as its pickles do. Two places that hold one object come back as two equal objects.

    Args:
        value: What to write.
        store: Keeps a pickle by content and returns its sha256. Without it pickles are written inline.

    Raises:
        NotSerializable: The value holds something that cannot be pickled, or holds itself.
    """
    if type(value) is dict and _SCALARS.issuperset(map(type, value.values())) and _KEYS.issuperset(map(type, value)):
        try:
            return _pack(value)
        except (OverflowError, UnicodeEncodeError):
            return _pack(_lowered(value, store))  # an int beyond 64 bits, or text with lone surrogates
    try:
        return _pack(_lowered(value, store))
    except RecursionError:
        raise NotSerializable(
            "A value is nested too deeply or holds itself. Put such an object inside an instance of a class."
        ) from None


def decode(data: bytes, load: Load | None = None, references: Mapping[str, Reference] | None = None) -> Any:
    """Gives back what `encode` wrote.

    Args:
        data: Bytes from `encode`.
        load: Gives the object whose pickle `store` kept under that sha256. Without it (someone only looks) nothing is
            unpickled: an `Opaque` stands wherever a pickled object was.
        references: By place, what stands there; a bare `Reference` comes back for a place that is not among them.
    """
    if load is None:
        return _look(data)
    try:
        return _quick(data)  # nearly all values: nothing pickled inside
    except _PickleMet:
        return _Reader(load, references).read(data)


def plain(value: object) -> Any:
    """A copy that `json.dumps` takes, for files that people and other tools read.

    NumPy values become Python's, tuples and sets lists, keys text, paths and everything else their `str()`. NaN and inf
    stay floats.
    """
    try:
        return _plain(value)
    except RecursionError:
        return _text(value)


def flatten(nested: dict[Any, Any], separator: str = "/") -> dict[str, Any]:
    """Nested dictionaries as one level: `{"a": {"b": 1}}` gives `{"a/b": 1}`. Empty dictionaries inside vanish."""
    if _SCALARS.issuperset(map(type, nested.values())) and _KEYS.issuperset(map(type, nested)):
        return dict(nested)  # most rows are flat: this is asked of each
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        name = key if type(key) is str else str(key)
        if isinstance(value, dict):
            for below, leaf in flatten(value, separator).items():
                flat[name + separator + below] = leaf
        else:
            flat[name] = value
    return flat


def unflatten(flat: dict[str, Any], separator: str = "/") -> dict[str, Any]:
    """The inverse of `flatten` for dictionaries with text keys. A key that is both a leaf and a branch raises ValueError."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *branches, leaf = key.split(separator)
        level = nested
        for branch in branches:
            level = level.setdefault(branch, {}) if type(level) is dict else level
        if type(level) is not dict or leaf in level:
            raise ValueError(f"{key!r} cannot be nested: another key has taken its place")
        level[leaf] = value
    return nested


# Writing: each odd value becomes an extension whose payload is again written by this codec.


def _lowered(value: Any, store: Store | None) -> Any:
    kind = type(value)
    if kind is int:
        if -(2**63) <= value < 2**64:
            return value
        return _Ext(_BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
    if kind is str:
        if value.isascii():
            return value
        raw = value.encode("utf-8", "surrogatepass")
        return value if _is_unicode(raw) else _Ext(_TEXT, raw)
    if kind in _SCALARS or kind is bytes:
        return value
    if kind is list:
        return [_lowered(item, store) for item in value]
    if kind is dict:
        if _KEYS.issuperset(map(type, value)) and all(key.isascii() for key in value):
            return {key: _lowered(item, store) for key, item in value.items()}
        return _Ext(_MAP, _pack([_lowered(part, store) for pair in value.items() for part in pair]))
    if kind is tuple:
        return _Ext(_TUPLE, _pack([_lowered(item, store) for item in value]))
    if kind is complex:
        return _Ext(_COMPLEX, _pack((value.real, value.imag)))
    if kind is set or kind is frozenset:
        members = sorted(_pack(_lowered(item, store)) for item in value)
        return _Ext(_SET if kind is set else _FROZENSET, _pack([msgspec.Raw(member) for member in members]))
    if kind is _PATH_TYPE:
        return _Ext(_PATH, str(value).encode("utf-8", "surrogatepass"))
    if isinstance(value, Reference):
        return _Ext(_REFERENCE, value.named().encode("utf-8", "surrogatepass"))
    return _lowered_numpy(value) or _pickled(value, store)


def _is_unicode(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _numpy() -> ModuleType | None:
    return sys.modules.get("numpy")


def _lowered_numpy(value: Any) -> msgspec.msgpack.Ext | None:
    """NumPy's own scalars and arrays of plain kinds; None for anything else."""
    numpy = _numpy()
    if numpy is None:
        return None
    kind = type(value)
    if kind is numpy.ndarray and value.dtype.kind in _NUMPY_KINDS:
        return _Ext(_NUMPY_ARRAY, _pack((value.dtype.str, list(value.shape), value.tobytes())))
    if isinstance(value, numpy.generic) and value.dtype.kind in _NUMPY_KINDS and value.dtype.type is kind:
        return _Ext(_NUMPY_SCALAR, _pack((value.dtype.str, _lowered(_content(value), None))))
    return None


def _content(value: Any) -> str | bytes:
    """What a NumPy scalar is made of again."""
    if value.dtype.kind in "SU":
        return value[:]  # type: ignore[no-any-return]  # its buffer would lose trailing zeros
    if value.dtype.char == "g":
        return str(value)  # the shortest text that gives the same number; its buffer has random padding
    return value.tobytes()  # type: ignore[no-any-return]


def _pickled(value: object, store: Store | None) -> msgspec.msgpack.Ext:
    name = type_name(value)
    if isinstance(value, Opaque):
        raise NotSerializable(f"{value!r} only stands in for an object that was not loaded; it cannot be written again.")
    try:
        data = pickled(value)
    except Exception as error:  # pickling runs the user's __reduce__ and __getstate__
        raise NotSerializable(
            f"A value of type {name} is non-serializable: {type(error).__name__}: {error}. "
            "Create it inside the trainable, or give it a __reduce__ method."
        ) from error
    if store is None:
        return _Ext(_INLINED, _pack((name, data)))
    return _Ext(_STORED, _pack((name, store(data))))


# Reading.


class _PickleMet(Exception):
    """Says that a reader without means to load met a pickle or a reference."""


class _Reader:
    """Reads what `encode` wrote; `load` None shows pickled objects as `Opaque`."""

    __slots__ = ("_load", "_references", "read")

    def __init__(self, load: Load | None, references: Mapping[str, Reference] | None = None) -> None:
        self._load = load
        self._references = references or {}
        self.read: Callable[[bytes], Any] = msgspec.msgpack.Decoder(ext_hook=self._revived).decode

    def _revived(self, code: int, data: memoryview) -> object:
        if code == _BIG_INT:
            return int.from_bytes(data, "little", signed=True)
        if code in (_PATH, _TEXT, _REFERENCE):
            text = bytes(data).decode("utf-8", "surrogatepass")
            return Path(text) if code == _PATH else text if code == _TEXT else self._reference(text)
        parts = self.read(bytes(data))
        if code == _TUPLE:
            return tuple(parts)
        if code == _MAP:
            return dict(zip(parts[::2], parts[1::2], strict=True))
        if code == _COMPLEX:
            return complex(*parts)
        if code == _SET:
            return set(parts)
        if code == _FROZENSET:
            return frozenset(parts)
        if code in (_NUMPY_SCALAR, _NUMPY_ARRAY):
            return _revived_numpy(code, parts)
        if code in (_STORED, _INLINED):
            return self._object(code, *parts)
        raise ValueError(f"value extension {code} is unknown: it was written by a newer holdfast; upgrade to read it")

    def _reference(self, place: str) -> Reference:
        if self._load is _refuse:
            raise _PickleMet
        return self._references.get(place) or Reference(place)

    def _object(self, code: int, name: str, content: Any) -> object:
        if self._load is None:
            return Opaque(name, content if code == _STORED else sha256(content).hexdigest())
        if code == _STORED or self._load is _refuse:
            return self._load(content)
        import pickle

        return pickle.loads(content)


def _refuse(_: str) -> object:
    raise _PickleMet


def _revived_numpy(code: int, parts: list[Any]) -> object:
    import numpy

    if code == _NUMPY_SCALAR:
        dtype, raw = parts
        kind = numpy.dtype(dtype)
        return kind.type(raw) if kind.kind in "SU" or kind.char == "g" else numpy.frombuffer(raw, kind)[0]
    dtype, shape, raw = parts
    return numpy.frombuffer(raw, dtype).reshape(shape).copy() if raw else numpy.empty(shape, dtype)


_look = _Reader(None).read
_quick = _Reader(_refuse).read


# Showing.


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if isinstance(value, dict):
        if _SCALARS.issuperset(map(type, value.values())) and _KEYS.issuperset(map(type, value)):
            return dict(value)
        return {key if type(key) is str else _text(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return [_plain(item) for item in _in_order(value)]
    numpy = _numpy()
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        native = value.tolist()
        # What NumPy has no Python value for (a long double) stays what it is.
        return _text(value) if isinstance(native, numpy.generic) else _plain(native)
    return _text(value)


def _in_order(members: Iterable[object]) -> list[object]:
    return sorted(members, key=lambda member: (type(member).__name__, _text(member)))


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the user's own __str__ may fail; a file that shows the value must not
        return f"<{type_name(value)}>"
