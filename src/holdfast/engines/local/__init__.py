"""The local engine: a guardian, a server that forks, and one process per attempt.

The names are loaded when first used, because the guardian's interpreter passes through here and needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.engines.local.engine import LocalEngine as LocalEngine
    from holdfast.engines.local.leftovers import end_leftovers as end_leftovers

__all__ = ["LocalEngine", "end_leftovers"]


def __getattr__(name: str) -> Any:
    if name == "LocalEngine":
        from holdfast.engines.local.engine import LocalEngine

        return LocalEngine
    if name == "end_leftovers":
        from holdfast.engines.local.leftovers import end_leftovers

        return end_leftovers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
