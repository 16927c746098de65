"""Which engine a name stands for. An engine's module, and what it needs, is loaded when it is named."""

from __future__ import annotations

import sys

from holdfast import settings
from holdfast.engines.base import Engine
from holdfast.errors import ConfigError

__all__ = ["engine_named"]


def engine_named(given: str | Engine | None) -> Engine:
    """The engine that a name stands for, or the one given; by default Ray's where this process is connected to Ray or is told to.

    Raises:
        ConfigError: There is none of that name, or it is not installed.
    """
    name = given or settings.engine() or ("ray" if settings.ray_address() or _is_on_ray() else "local")
    if not isinstance(name, str):
        return name
    if name == "ray":
        return _ray_engine()
    if name == "inline":
        from holdfast.engines.inline import InlineEngine

        return InlineEngine()
    if name != "local":
        raise ConfigError(
            f"There is no engine {name!r}; 'local' runs trials in processes on this machine, 'inline' one by one in this "
            "process, 'ray' on a Ray cluster, or give an engine object."
        )
    from holdfast.engines.local import LocalEngine

    engine: Engine = LocalEngine()
    return engine


def _is_on_ray() -> bool:
    """Whether this process is connected to Ray; a process that has not loaded Ray is not."""
    ray = sys.modules.get("ray")
    return bool(getattr(ray, "is_initialized", bool)())


def _ray_engine() -> Engine:
    try:
        from holdfast.engines.ray import RayEngine
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ConfigError(
            "The engine 'ray' needs Ray: pip install 'holdfast[ray]', or take another engine: RunConfig(engine='local')."
        ) from error
    engine: Engine = RayEngine()
    return engine
