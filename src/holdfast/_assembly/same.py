"""Is a re-given `param_space` the one that was submitted? Its objects and references may be others, all else may not."""

from __future__ import annotations

from typing import Any

from holdfast import values
from holdfast._assembly.submission import JobSpec, checked_space
from holdfast._core.events import ExperimentCreated
from holdfast.errors import JobChanged
from holdfast.space import space_keys
from holdfast.space.domains import Categorical, Domain

__all__ = ["same_job"]


def same_job(given: Any, stored: JobSpec, created: ExperimentCreated) -> JobSpec:
    """The stored job with the objects of a re-given `param_space` in their places.

    Raises:
        ConfigError: It is no dictionary.
        JobChanged: Its keys, or plain values or domains in it, are not those that were submitted.
    """
    space = checked_space(given)
    keys = space_keys(space)
    if keys != created.space_keys:
        more, fewer = sorted(set(keys) - set(created.space_keys)), sorted(set(created.space_keys) - set(keys))
        raise JobChanged(
            f"param_space on restore has other keys than the submitted one: added {more}, missing {fewer}. Restore "
            "completes the job that was submitted: give the same space or none."
        )
    before, now = values.flatten(stored.param_space), values.flatten(space)
    changed = sorted(key for key in before if key in now and not _same(before[key], now[key]))
    if changed:
        told = "; ".join(f"{key}: {before[key]!r} became {now[key]!r}" for key in changed[:5])
        raise JobChanged(f"param_space on restore differs from the submitted one at {told}. Give the same space or none.")
    return stored._replace(param_space=space)


def _same(before: Any, now: Any) -> bool:
    """Whether a value of the space may stand for the other: objects and references may, all else must be equal."""
    if isinstance(before, values.Reference) or isinstance(now, values.Reference):
        return isinstance(before, values.Reference) and isinstance(now, values.Reference)
    if isinstance(before, Categorical) and type(before) is type(now) and len(before) == len(now):
        same = map(_same, before.categories, now.categories)
        return repr(before.sampler) == repr(now.sampler) and all(same)
    if isinstance(before, Domain) or isinstance(now, Domain):
        return type(before) is type(now) and repr(before) == repr(now)
    plain = (bool, int, float, str, bytes, type(None), list, tuple, dict)
    if isinstance(before, plain) or isinstance(now, plain):
        return type(before) is type(now) and values.encode(before, _sha) == values.encode(now, _sha)
    return True


def _sha(_: bytes) -> str:
    return "object"
