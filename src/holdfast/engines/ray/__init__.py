"""The Ray engine: one actor per attempt, anywhere on a Ray cluster. Needs `holdfast[ray]`.

The names are loaded when first used, because each actor's parent process passes through here and needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.engines.ray.engine import RayEngine as RayEngine

__all__ = ["RayEngine"]


def __getattr__(name: str) -> Any:
    if name == "RayEngine":
        from holdfast.engines.ray.engine import RayEngine

        return RayEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
