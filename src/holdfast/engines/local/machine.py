"""What this machine has, and what it is called."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Iterable, Iterator

__all__ = ["available_cpus", "available_memory", "host_and_address", "oom_kills"]

_PROC = "/proc"
_CGROUP = "/sys/fs/cgroup"


def available_cpus() -> float:
    """How many CPUs this process may use: those it may run on, bounded by its control group's quota."""
    count = float(len(os.sched_getaffinity(0)))
    quota = _quota()
    return count if quota is None else max(1.0, float(int(min(count, quota))))


def available_memory() -> float:
    """How many bytes of memory this process may use: the machine's, bounded by its control group's limit."""
    total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min([total, *(bound for line in _groups() for bound in _memory_bounds(*line))])


@functools.lru_cache(maxsize=1)
def host_and_address() -> tuple[str, str]:
    """The host's name and the address by which others would reach it; 127.0.0.1 without a network. Nothing is sent."""
    name = socket.gethostname()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address of no one: connecting a datagram socket only picks a route
            return name, str(probe.getsockname()[0])
        except OSError:
            return name, "127.0.0.1"


def oom_kills() -> int:
    """How many processes the kernel has killed so far because memory ran out: in this control group, else on the machine."""
    for number, controllers, path in _groups():
        found = _first_count(_files(number, controllers, path, "memory", "memory.events", "memory.oom_control"))
        if found is not None:
            return found
    return _first_count([f"{_PROC}/vmstat"]) or 0


def _first_count(files: Iterable[str]) -> int | None:
    for file in files:
        with contextlib.suppress(OSError, ValueError):  # it is not there, or says something else
            words = _text(file).split()
            return int(words[words.index("oom_kill") + 1])
    return None


def _quota() -> float | None:
    """CPUs that the control group allows, or None without a bound."""
    return min((bound for line in _groups() for bound in _cpu_bounds(*line)), default=None)


def _groups() -> list[list[str]]:
    """The lines of /proc/self/cgroup: number, controllers, path."""
    try:
        with open(f"{_PROC}/self/cgroup", encoding="ascii") as file:
            return [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return []


def _files(number: str, controllers: str, path: str, controller: str, *names: str) -> Iterator[str]:
    """The files of one line of /proc/self/cgroup: of its group and of all above, as a container sees them.

    `names` are those of the second version of control groups and of the first; nothing where the line is of another controller.
    """
    if number == "0":
        root, name = _CGROUP, names[0]
    elif controller in controllers.split(","):
        root, name = os.path.join(_CGROUP, controller), names[1]
    else:
        return
    at = path.strip("/")
    while True:
        yield os.path.join(root, at, name)
        if not at:
            return
        at = os.path.dirname(at)


def _memory_bounds(number: str, controllers: str, path: str) -> Iterator[float]:
    for file in _files(number, controllers, path, "memory", "memory.max", "memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # it is not there, or says that there is no bound ("max")
            yield float(_text(file))


def _cpu_bounds(number: str, controllers: str, path: str) -> Iterator[float]:
    for file in _files(number, controllers, path, "cpu", "cpu.max", "cpu.cfs_quota_us"):
        with contextlib.suppress(OSError, ValueError):
            quota, *period = _text(file).split()
            if not period:
                period = [_text(file.replace("cfs_quota_us", "cfs_period_us"))]
            if int(quota) > 0:
                yield int(quota) / int(period[0])


def _text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()
