"""References of Ray's own store and datasets of Ray Data, as they stand in a `param_space`.

This module knows that a value is one of these by asking the Ray that this process has loaded; it never loads it. It refuses to
know clusters: the engine `ray` alone brings these to trials.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from typing import Any

from holdfast.errors import ConfigError
from holdfast.values import Reference, by_place

__all__ = ["ClusterRef", "is_clusters"]


_KINDS = (("ray", "ObjectRef"), ("ray.data", "Dataset"))


def is_clusters(value: object) -> bool:
    """Whether a value is what `ray.put` returns, or a dataset of Ray Data."""
    kinds = (getattr(sys.modules.get(module), name, None) for module, name in _KINDS)
    return any(isinstance(kind, type) and isinstance(value, kind) for kind in kinds)


class ClusterRef(Reference):
    """Stands for a reference or a dataset of Ray's, whose trial finds Ray's own there: `ray.get` takes it, or it is iterated.

    Its pickle for a worker is that of Ray's object. What that leads to in the store, Ray then keeps alive for as long as the
    driver lives.

    Args:
        reference: Ray's object.
        revive: What a pickle calls that keeps no more of it than its place.
        place: Where it stands.
    """

    __slots__ = ("_revive", "reference")

    def __init__(self, reference: Any, revive: Callable[[str], Reference], place: str = "") -> None:
        super().__init__(place)
        self.reference = reference
        self._revive = revive

    def at(self, place: str) -> ClusterRef:
        """The same, standing at a place."""
        return ClusterRef(self.reference, self._revive, place)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClusterRef) and bool(self.reference == other.reference)

    def __hash__(self) -> int:
        return hash(self.reference)

    def __copy__(self) -> ClusterRef:
        return self

    def __deepcopy__(self, memo: object) -> ClusterRef:
        return self

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Any, ...]]:
        if by_place.get():
            return self._revive, (self.named(),)
        outsiders = getattr(sys.modules.get("ray.util.client.common"), "ClientObjectRef", ())
        if isinstance(self.reference, outsiders):
            raise ConfigError(
                f"param_space has a reference of Ray's store at {self.place!r}, and this driver is outside the cluster (ray://): "
                "such a reference leads nowhere in a trial. Use holdfast.put in the place of ray.put, or drive on a node."
            )
        return pickle.loads, (sys.modules["ray"].cloudpickle.dumps(self.reference),)
