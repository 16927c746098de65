"""The ground that an actor stands on: what of the driver's surroundings holds on its node, and where attempts run there.

Knows the driver's machine by a directory that only it has. It knows no attempt and no mailbox.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import ray

from holdfast import settings
from holdfast._worker.protocol import Workplace, decode_place
from holdfast.engines.local.machine import host_and_address
from holdfast.objects import afar

__all__ = ["Ground", "World", "ground", "reports_dir"]


class World(NamedTuple):
    """What the driver's process has around it.

    Attributes:
        host: Its machine's name.
        environment: Its variables as at `fit()`, and those that the engine adds.
        objects: By key, Ray's references to the bytes of what was put there (`holdfast.put`).
        below: Where attempts run, below each machine's own `HOLDFAST_CACHE_DIR`; empty: in a directory that all nodes share.
        node: Its own, as Ray calls it; empty where it is on none.
        wire: The address at which it listens for attempts on that node.
    """

    host: str
    environment: dict[str, str]
    objects: dict[bytes, Any]
    below: str = ""
    node: str = ""
    wire: str = ""


class Ground(NamedTuple):
    """Where an actor finds itself.

    Attributes:
        place: The workplace as it is on this machine.
        away: Whether attempts here run in a directory that is this node's and not the driver's.
    """

    place: Workplace
    away: bool


def reports_dir(experiment_dir: str, nonce: str) -> str:
    """Where word is left of actors that ended. It is made by the driver, so who sees it sees the driver's directory."""
    return os.path.join(experiment_dir, "logs", f".ray-{nonce}")


def ground(place: bytes, world: World) -> Ground:
    """Gives this process the driver's environment, as far as it holds here, and looks where it is.

    Raises:
        OSError: This node's disk refuses.
    """
    _set_environment(world.environment, same_machine=host_and_address()[0] == world.host)
    afar.update({key: functools.partial(ray.get, reference) for key, reference in world.objects.items()})
    here = _place_here(decode_place(place))
    if not world.below:
        return Ground(here, away=False)
    attempts = os.path.join(settings.cache_dir(), world.below)
    if os.path.isdir(reports_dir(attempts, here.nonce)):
        return Ground(here, away=False)
    os.makedirs(os.path.join(attempts, "logs"), exist_ok=True)
    return Ground(msgspec.structs.replace(here, experiment_dir=attempts), away=True)


def _place_here(place: Workplace) -> Workplace:
    """The workplace as it is on this machine: what it can import comes behind what the driver can; its directory is there."""
    theirs = [entry for entry in place.sys_path if os.path.exists(entry)]
    own = [entry for entry in sys.path if entry not in theirs]
    working_dir = place.working_dir if os.path.isdir(place.working_dir) else os.getcwd()
    return msgspec.structs.replace(place, sys_path=[*theirs, *own], working_dir=working_dir)


def _set_environment(wanted: Mapping[str, str], *, same_machine: bool) -> None:
    """Gives the process the driver's variables, save Ray's own and the GPUs; on another machine only those that it has not.

    Where this node keeps its cache is its own affair, always.
    """
    for name, value in wanted.items():
        if name.startswith("RAY_") or name == "CUDA_VISIBLE_DEVICES":
            continue
        if (same_machine and name != "HOLDFAST_CACHE_DIR") or name not in os.environ:
            os.environ[name] = value
