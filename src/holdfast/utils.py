"""Three things to ask before a long run: can a trainable travel, does it come back from a checkpoint, is a GPU free.

Each runs in this process, without an experiment. This module knows trainables and `nvidia-smi`; it does not know how an
experiment runs.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from holdfast import settings
from holdfast.errors import ConfigError, GpuNotFree, RestoreDiffers, WrongType
from holdfast.trainable import Trainable

__all__ = ["diagnose_serialization", "validate_save_restore", "wait_for_gpu"]

_ITERATIONS = 3
_OF_THE_CLOCK = frozenset({"date", "time_since_restore", "time_this_iter_s", "time_total_s", "timestamp"})
_OF_THE_RESTORE = frozenset({"iterations_since_restore", "timesteps_since_restore"})
# The generators of these modules, where they are loaded: how the state is read, put back and seeded.
_GENERATORS = {
    "random": ("getstate", "setstate", "seed"),
    "numpy.random": ("get_state", "set_state", "seed"),
    "torch.random": ("get_rng_state", "set_rng_state", "manual_seed"),
}


def validate_save_restore(
    trainable_cls: type[Trainable],
    config: dict[str, Any] | None = None,
    num_gpus: int = 0,  # noqa: ARG001 - Ray Tune's
) -> bool:
    """Checks that a class trainable comes back from its checkpoint as if nothing had happened.

    One instance trains three iterations, saves, and trains three more. Two fresh ones are restored from the checkpoint and train
    three: what both of them report must be what the first one reported. A metric on which the two differ is noise, such as a
    measured time, and is not compared. The global generators of `random`, NumPy and torch begin at the same place in each run.

    Args:
        trainable_cls: The class.
        config: Its configuration.
        num_gpus: Of no effect: the check runs in this process and takes what that has.

    Returns:
        True.

    Raises:
        RestoreDiffers: A restored instance reports something else.
        ConfigError: It is no class trainable.
        Exception: What the trainable itself raises.
    """
    if not (isinstance(trainable_cls, type) and issubclass(trainable_cls, Trainable)):
        raise ConfigError(f"validate_save_restore takes a subclass of holdfast.Trainable, not {trainable_cls!r}.")
    import tempfile

    with tempfile.TemporaryDirectory(prefix="holdfast_") as folder:
        first = trainable_cls(dict(config or {}), storage=folder)
        try:
            for _ in range(_ITERATIONS):
                first.train()
            saved = first.save(f"{folder}/checkpoint")
            expected = _run_on(first)
        finally:
            first.stop()
        restored = []
        for _ in range(2):
            fresh = trainable_cls(dict(config or {}), storage=folder)
            try:
                fresh.restore(saved)
                restored.append(_run_on(fresh))
            finally:
                fresh.stop()
    _compare(expected, restored[0], restored[1])
    return True


def _run_on(instance: Trainable) -> list[dict[str, Any]]:
    """What some more iterations report, the global generators beginning at a fixed place; they are put back after."""
    loaded = [(module, kept) for module, kept in _GENERATORS.items() if module in sys.modules]
    states = [getattr(sys.modules[module], get)() for module, (get, _, _) in loaded]
    try:
        for module, (_, _, seed) in loaded:
            getattr(sys.modules[module], seed)(0)
        return [instance.train() for _ in range(_ITERATIONS)]
    finally:
        for (module, (_, put, _)), state in zip(loaded, states, strict=True):
            getattr(sys.modules[module], put)(state)


def _compare(expected: list[dict[str, Any]], restored: list[dict[str, Any]], again: list[dict[str, Any]]) -> None:
    passed_over = _OF_THE_CLOCK | _OF_THE_RESTORE
    for one, two, three in zip(expected, restored, again, strict=True):
        for key in dict.fromkeys([*one, *two]):
            if key in passed_over:
                continue
            before, after = one.get(key, "nothing"), two.get(key, "nothing")
            if not _same(before, after) and _same(after, three.get(key, "nothing")):
                raise RestoreDiffers(one["training_iteration"], key, before, after)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6) or (math.isnan(one) and math.isnan(other))
    if hasattr(one, "tolist") and hasattr(other, "tolist"):
        return _same(one.tolist(), other.tolist())
    return bool(one == other)


def diagnose_serialization(trainable: Callable[..., Any]) -> bool | set[Any]:
    """Says what keeps a trainable from travelling to another process.

    Args:
        trainable: A function or a class.

    Returns:
        True where it can be pickled. Else the objects that cannot, and that nothing inside them explains (the text of one that
        cannot be in a set); where each was found is printed.
    """
    if _travels(trainable):
        return True
    found: dict[int, tuple[str, Any]] = {}
    _search(trainable, getattr(trainable, "__name__", "the trainable"), found, set())
    print(f"{trainable!r} cannot be pickled. What spoils it:")  # noqa: T201 - that is what it is called for
    for where, value in found.values():
        print(f"  {where}: {value!r}. Create it inside the trainable.")  # noqa: T201 - the same
    return {value if _hashable(value) else repr(value) for _, value in found.values()}


def _search(value: Any, where: str, found: dict[int, tuple[str, Any]], seen: set[int]) -> None:
    """Goes down to the innermost parts that cannot be pickled."""
    if id(value) in seen:
        return
    seen.add(id(value))
    inner = [(f"{where}, {name}", part) for name, part in _parts(value) if not _travels(part)]
    if not inner:
        found[id(value)] = (where, value)
    for name, part in inner:
        _search(part, name, found, seen)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a pickle of the value would take along, by what it is called."""
    import inspect

    if inspect.isfunction(value):
        used = inspect.getclosurevars(value)
        yield from ((f"global {name!r}", part) for name, part in used.globals.items())
        yield from ((f"variable {name!r}", part) for name, part in used.nonlocals.items())
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        yield from ((f"default {number}", part) for number, part in enumerate(defaults))
    elif inspect.ismethod(value):
        yield from (("its function", value.__func__), ("its object", value.__self__))
    elif isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"[{number}]", part) for number, part in enumerate(value))
    else:
        if hasattr(value, "func"):  # a partial: its parts are no attributes of its own
            yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
        for name, part in getattr(value, "__dict__", {}).items():
            yield f"attribute {name!r}", getattr(part, "__func__", part)


def _travels(value: Any) -> bool:
    import cloudpickle

    try:
        cloudpickle.dumps(value)
    except Exception:  # noqa: BLE001 - a user's object may raise anything while it is pickled
        return False
    return True


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def wait_for_gpu(
    gpu_id: int | str | None = None,
    target_util: float = 0.01,
    retry: int = 20,
    delay_s: int = 5,
    gpu_memory_limit: float | None = None,
) -> bool:
    """Waits until the memory of a GPU is free, as `nvidia-smi` tells; for the begin of `setup`, after another trial's process.

    Args:
        gpu_id: Its number, or its UUID; None: the first one that this process may use (`CUDA_VISIBLE_DEVICES`), else 0.
        target_util: The share of its memory, 0 to 1, that may be taken.
        retry: How often to look.
        delay_s: Seconds between two looks.
        gpu_memory_limit: Of Ray Tune's past; not accepted any more.

    Returns:
        True.

    Raises:
        WrongType: `gpu_id` is neither a number nor text.
        ConfigError: There is no such GPU, or `gpu_memory_limit` is given.
        GpuNotFree: There is no `nvidia-smi`, or the memory did not become free.
    """
    if gpu_memory_limit is not None:
        raise ConfigError("wait_for_gpu(gpu_memory_limit=...) is gone: use target_util, a share of the GPU's memory.")
    if gpu_id is not None and (isinstance(gpu_id, bool) or not isinstance(gpu_id, (int, str))):
        raise WrongType(f"wait_for_gpu(gpu_id={gpu_id!r}): the number of a GPU, or its UUID as text.")
    wanted = _first_visible() if gpu_id is None else str(gpu_id)
    for left in range(retry - 1, -1, -1):
        share = _memory_shares()
        matching = [taken for names, taken in share if wanted in names]
        if not matching:
            known = [" = ".join(names) for names, _ in share]
            raise ConfigError(f"wait_for_gpu(gpu_id={wanted!r}): there is no such GPU; there are {known}.")
        if matching[0] <= target_util:
            return True
        if left:
            time.sleep(delay_s)
    raise GpuNotFree(f"The memory of GPU {wanted} did not become free in {retry} looks: {matching[0]:.0%} of it are taken.")


def _first_visible() -> str:
    return settings.visible_gpus().split(",")[0].strip() or "0"


def _memory_shares() -> list[tuple[tuple[str, str], float]]:
    """Each GPU's number and UUID, and which share of its memory is taken."""
    import subprocess

    command = ["nvidia-smi", "--query-gpu=index,uuid,memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise GpuNotFree(f"wait_for_gpu asks nvidia-smi, which does not answer here: {error}. Is there an NVIDIA GPU?") from error
    found = []
    for line in done.stdout.splitlines():
        number, uuid, used, total = (part.strip() for part in line.split(","))
        found.append(((number, uuid), float(used) / float(total)))
    return found
