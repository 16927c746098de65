"""Objects in shared memory: `put` writes one down once, `get` reads it in each trial, without a copy of its arrays.

An object lives in the process that put it, as a file without a name. A reference says which process and which descriptor, and
the key that stands in the object's first bytes: what a descriptor has become meanwhile is never taken for the object. The
kernel frees it with its last holder, `kill -9` included.

This module knows objects and references. It refuses to know experiments: which reference stands at which place of a restored job
is told by who drives one. Linux only.
"""

from __future__ import annotations

import os
import pickle
import struct
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.errors import ConfigError, NotSerializable, ObjectLost, SearchSpaceError
from holdfast.foreign import ClusterRef, is_clusters
from holdfast.values import Reference, by_place, type_name

if TYPE_CHECKING:
    from mmap import mmap

__all__ = ["ObjectRef", "afar", "get", "held", "placed", "put", "reference_at", "references_in", "supplying", "with_parameters"]

T = TypeVar("T")
_HEAD = struct.Struct("<16sQ")  # the key, and how many lengths follow: of the pickle, then of the buffers beside it
_ALIGNED = 64  # what vector instructions like
_SEARCHED, _MOST_MODULES = 64 * 1024, 32


def put(obj: Any) -> ObjectRef:
    """Keeps an object where all processes of an experiment on this machine can read it.

    Its arrays are copied once, here; `get` copies them no more. It lives in this process as long as a reference to it does, or a
    `Tuner` whose trainable or `param_space` has one; after a crash it must be put again (`Tuner.restore`). A reference inside the
    object is kept as a reference: hold on to that one, too.

    Args:
        obj: Anything that can be pickled. NumPy arrays, Arrow tables and all else that gives its buffers away (pickle protocol 5)
            are shared, the rest is each reader's own copy.

    Returns:
        The reference: small, and good in every process of this user on this machine.

    Raises:
        NotSerializable: It cannot be pickled.
        StorageError: Neither memory nor disk has room for it.
        ConfigError: It is a reference already.
    """
    import cloudpickle

    from holdfast.storage.nameless import keep

    if isinstance(obj, Reference):
        raise ConfigError("put() was given a reference. Use it as it is: it is as small as another one to it would be.")
    buffers: list[pickle.PickleBuffer] = []
    try:
        stream = cloudpickle.dumps(obj, protocol=5, buffer_callback=buffers.append)
        parts = [memoryview(stream), *(buffer.raw() for buffer in buffers)]
    except Exception as error:  # pickling runs the user's __reduce__ and __getstate__
        raise NotSerializable(f"put() cannot pickle a {type_name(obj)}: {type(error).__name__}: {error}.") from error
    key = os.urandom(16)
    lengths = [len(part) for part in parts]
    head = _HEAD.pack(key, len(parts)) + struct.pack(f"<{len(parts)}Q", *lengths)
    *offsets, size = _offsets(lengths)
    descriptor = keep([(0, memoryview(head)), *zip(offsets, parts, strict=True)], size)
    held = _held[key] = _Held(descriptor)
    reference = ObjectRef(os.getpid(), descriptor, size, key, modules=_modules_in(stream))
    del held  # the reference has it now
    return reference


def get(object_refs: Any) -> Any:
    """The object of a reference, or the list of objects of a list of references.

    Arrays are views of the shared memory: read-only, and not copied however often and by how many processes they are read. All
    else is a fresh copy in each call.

    Raises:
        ObjectLost: Its process has ended or has let the last reference go.
        ConfigError: It is no reference, and no list of references.
    """
    if isinstance(object_refs, list):
        return [get(reference) for reference in object_refs]
    if isinstance(object_refs, ObjectRef):
        return object_refs.read()
    if isinstance(object_refs, Reference):
        raise ObjectLost(
            f"The object that stood at {object_refs.place!r} of param_space is not known here: a reference lives no longer than "
            "its driver. Put it again, and give the new reference: Tuner.restore(path, trainable, param_space=...)."
        )
    raise ConfigError(f"get() takes an ObjectRef or a list of them, not {type_name(object_refs)}.")


class _Held:
    """The memory of an object in the process that put it; given back with the last reference there."""

    __slots__ = ("__weakref__", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor).atexit = False  # the kernel closes faster


_held: weakref.WeakValueDictionary[bytes, _Held] = weakref.WeakValueDictionary()
afar: dict[bytes, Callable[[], Any]] = {}
"""By key, what gives the bytes of objects whose process is on another machine; filled by an engine of several."""
_mapped: weakref.WeakValueDictionary[bytes, mmap] = weakref.WeakValueDictionary()


def held() -> dict[bytes, mmap]:
    """By key, the bytes of all objects that live in this process."""
    import mmap

    return {key: mmap.mmap(it.descriptor, 0, access=mmap.ACCESS_READ) for key, it in list(_held.items())}


class ObjectRef(Reference):
    """Leads to an object that `put` keeps. Made by `put`; equal to every other reference to the same object.

    May stand in `param_space` (plain, in lists, in a `choice`, in a `grid_search`), be captured by a trainable, or be pickled.
    """

    __slots__ = ("_descriptor", "_kept", "_key", "_modules", "_pid", "_size")

    def __init__(self, pid: int, descriptor: int, size: int, key: bytes, place: str = "", modules: tuple[str, ...] = ()) -> None:
        super().__init__(place)
        self._modules = modules  # in its pickle, for an engine that loads ahead what a trainable's pickle names
        self._pid = pid
        self._descriptor = descriptor
        self._size = size
        self._key = key
        self._kept: tuple[_Held | mmap | None, ...] = (_held.get(key), _mapped.get(key))

    def at(self, place: str) -> ObjectRef:
        """The same reference, standing at a place of a `param_space`."""
        return ObjectRef(self._pid, self._descriptor, self._size, self._key, place, self._modules)

    def read(self) -> Any:
        """What `get` returns for it."""
        view = self._view()
        _, count = _HEAD.unpack_from(view)
        lengths = struct.unpack_from(f"<{count}Q", view, _HEAD.size)
        stream, *buffers = [view[start : start + length] for start, length in zip(_offsets(lengths), lengths, strict=False)]
        return pickle.loads(stream, buffers=buffers)

    def _view(self) -> memoryview:
        memory = _mapped.get(self._key)
        try:
            memory = memory or _mapped.setdefault(self._key, self._map())
        except ObjectLost:
            if self._key not in afar:
                raise
            return memoryview(afar[self._key]())
        self._kept = (self._kept[0], memory)
        return memoryview(memory)

    def _map(self) -> mmap:
        """The object's bytes, read-only.

        Raises:
            ObjectLost: They are gone.
        """
        import mmap
        import stat

        held = _held.get(self._key)
        path = f"/proc/{self._pid}/fd/{self._descriptor}" if held is None else f"/proc/self/fd/{held.descriptor}"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._lost(str(error.strerror)) from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size != self._size:
                raise self._lost("it has let it go")
            memory = mmap.mmap(descriptor, self._size, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
        if memory[: len(self._key)] != self._key:
            raise self._lost("it has let it go")
        return memory

    def _lost(self, why: str) -> ObjectLost:
        where = f", which stood at {self.place!r} of param_space," if self.place else ""
        return ObjectLost(
            f"The object{where} cannot be reached in process {self._pid} ({why}). It lives as long as that process and a "
            "reference there, and is read by the same user on the same machine. Put it again; for an experiment, give the new "
            "reference to Tuner.restore(path, trainable, param_space=...), or a trainable wrapped anew by with_parameters."
        )

    def __repr__(self) -> str:
        return f"ObjectRef({self.place or self._key.hex()[:8]})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectRef) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __copy__(self) -> ObjectRef:
        return self

    def __deepcopy__(self, memo: object) -> ObjectRef:
        return self

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Any, ...]]:
        if by_place.get():
            return reference_at, (self.named(),)
        return ObjectRef, (self._pid, self._descriptor, self._size, self._key, self.place, self._modules)


# References of an experiment, by their places in its `param_space`.

_supplied: ContextVar[Mapping[str, Reference]] = ContextVar("_supplied", default={})  # noqa: B039 - never changed


def reference_at(place: str) -> Reference:
    """What stands at a place: as told by `supplying`, else a bare one. Stored jobs name this function: it stays where it is."""
    return _supplied.get().get(place) or Reference(place)


@contextmanager
def supplying(references: Mapping[str, Reference]) -> Iterator[None]:
    """While it is entered, references that were pickled by place come back as these."""
    before = _supplied.set(references)
    try:
        yield
    finally:
        _supplied.reset(before)


def placed(space: dict[Any, Any]) -> dict[Any, Any]:
    """A search space whose references know their places; the given one where it has no reference.

    Raises:
        SearchSpaceError: Two references would have one place, as under the keys `"a/b"` and `"b"` inside `"a"`; or one is a
            bare one, out of the configuration of an experiment whose driver is gone.
    """
    if not references_in(space):
        return space
    seen: set[str] = set()

    def stand(reference: Reference, place: str) -> Reference:
        if place in seen:
            raise SearchSpaceError(f"param_space has two references at {place!r}: rename a key, so that each has its own place.")
        if not isinstance(reference, (ObjectRef, ClusterRef)):
            raise SearchSpaceError(f"param_space has {reference!r} at {place!r}, which leads nowhere any more: put it again.")
        seen.add(place)
        return reference.at(place)

    result: dict[Any, Any] = _mended(space, "", stand)
    return result


def references_in(space: dict[Any, Any]) -> dict[str, Reference]:
    """By place, the references in a search space; bare ones in one that came back from disk."""
    found: dict[str, Reference] = {}

    def look(reference: Reference, place: str) -> Reference:
        found[place] = reference
        return reference

    _mended(space, "", look)
    return found


def _mended(node: Any, place: str, mend: Callable[[Reference, str], Reference]) -> Any:
    """A copy of a space with each reference replaced; grids and choices count their values, lists their items, from 0."""
    if is_clusters(node):
        return mend(ClusterRef(node, reference_at), place)
    if isinstance(node, Reference):
        return mend(node, place)
    if type(node) is dict:
        if list(node) == ["grid_search"]:
            return {"grid_search": _mended(node["grid_search"], place, mend)}
        return {key: _mended(value, f"{place}/{key}" if place else str(key), mend) for key, value in node.items()}
    if type(node) is list:
        return [_mended(value, f"{place}[{index}]", mend) for index, value in enumerate(node)]
    if type(node) is tuple:
        return tuple(_mended(value, f"{place}[{index}]", mend) for index, value in enumerate(node))
    from copy import copy

    from holdfast.space.domains import Categorical

    if isinstance(node, Categorical):
        new = copy(node)
        new.categories = _mended(list(node.categories), place, mend)
        return new
    return node


# Trainables with objects.


def with_parameters(trainable: Callable[..., Any], **kwargs: Any) -> Any:
    """The trainable with objects for its further parameters, put once and read by each trial; the original is not changed.

    A function is called as `trainable(config, name=object, ...)`, a class trainable's `setup` likewise. Arrays are shared and
    read-only; each trial has its own copy of all else. After a crash, restore with the trainable wrapped anew.

    Args:
        trainable: A function, partial, bound method, or a class trainable.
        **kwargs: The objects; references from `put` are taken as they are.

    Returns:
        A trainable of the same name; a subclass where a class was given. It holds the objects: they are freed with it.

    Raises:
        ConfigError: A trainable that is none, or that has no such parameter.
        NotSerializable, StorageError: As `put`.
    """
    is_class = isinstance(trainable, type)
    taker: Any = getattr(trainable, "setup", None) if is_class else trainable
    if isinstance(trainable, str) or not callable(taker):
        raise ConfigError(f"with_parameters({trainable!r}, ...): give a function, or a class trainable that has a setup.")
    _check_parameters(taker, kwargs)
    references = {name: value if isinstance(value, Reference) else put(value) for name, value in kwargs.items()}
    if is_class:
        return _subclass(trainable, references)
    return _WithObjects(trainable, references)


class _WithObjects:
    """A function with objects for its further parameters, which are fetched when it is called."""

    def __init__(self, func: Callable[..., Any], references: dict[str, Reference]) -> None:
        for name, value in getattr(func, "__dict__", {}).items():
            if name == "_name" or name.startswith("_holdfast"):
                setattr(self, name, value)
        inner = getattr(func, "func", func)
        self._name = getattr(func, "_name", None) or getattr(inner, "__name__", None) or type(inner).__name__
        self.func = func
        self.references = references

    def __call__(self, config: dict[str, Any], **more: Any) -> Any:
        return self.func(config, **_fetched(self.references), **more)

    def __repr__(self) -> str:
        return f"with_parameters({self.func!r}, {', '.join(self.references)})"


def _subclass(trainable: Any, references: dict[str, Reference]) -> Any:
    """A class of the same name whose `setup` gets the objects. It travels by value, because it is in no module."""

    def setup(self: Any, config: dict[str, Any], **more: Any) -> None:
        trainable.setup(self, config, **_fetched(references), **more)

    return type(trainable.__name__, (trainable,), {"setup": setup, "__doc__": trainable.__doc__, "__module__": __name__})


def _fetched(references: dict[str, Reference]) -> dict[str, Any]:
    return {name: get(reference) for name, reference in references.items()}


def _check_parameters(taker: Callable[..., Any], kwargs: dict[str, Any]) -> None:
    """Refuses objects that the function has no parameter for: every trial would fail."""
    import inspect

    try:
        parameters = inspect.signature(taker).parameters
    except (TypeError, ValueError):
        return  # some callables do not say
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    names = [name for name, parameter in parameters.items() if parameter.kind is not parameter.POSITIONAL_ONLY]
    unknown = sorted(set(kwargs) - set(names))
    if unknown:
        raise ConfigError(f"with_parameters: the trainable takes {names}, not {unknown}. Give it parameters of those names.")


def _modules_in(stream: bytes) -> tuple[str, ...]:
    """Names of loaded modules that the beginning of a pickle names."""
    import re
    import sys

    words = {word.decode() for word in re.findall(rb"[A-Za-z_][A-Za-z0-9_.]*", stream[:_SEARCHED])}
    return tuple(sorted(words & sys.modules.keys())[:_MOST_MODULES])


def _offsets(lengths: Any) -> Iterator[int]:
    """Where each part begins, and last, where the object ends."""
    place = _HEAD.size + 8 * len(lengths)
    for length in lengths:
        place = -(-place // _ALIGNED) * _ALIGNED
        yield place
        place += length
    yield place
