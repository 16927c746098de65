"""Read models folded from the journal. They never run the controller, never write and, unless asked, unpickle nothing."""

from __future__ import annotations

__all__: list[str] = []
