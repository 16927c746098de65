"""What this machine has, and what it is called."""

from __future__ import annotations

import functools
import os
import socket

__all__ = ["available_cpus", "host_and_address"]


def available_cpus() -> float:
    """How many CPUs this process may use: those it may run on, bounded by its control group's quota."""
    count = float(len(os.sched_getaffinity(0)))
    quota = _quota()
    return count if quota is None else max(1.0, float(int(min(count, quota))))


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


def _quota() -> float | None:
    """CPUs that the control group allows, or None without a bound."""
    try:
        with open("/proc/self/cgroup", encoding="ascii") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return None
    bounds = [bound for number, controllers, path in groups if (bound := _bound(number, controllers, path)) is not None]
    return min(bounds, default=None)


def _bound(number: str, controllers: str, path: str) -> float | None:
    """The bound that one line of /proc/self/cgroup stands for: of that group, or of the root as a container sees it."""
    for below in (path, "/"):
        try:
            if number == "0":
                with open(os.path.join("/sys/fs/cgroup", below.strip("/"), "cpu.max"), encoding="ascii") as file:
                    quota, period = file.read().split()
            elif "cpu" in controllers.split(","):
                folder = os.path.join("/sys/fs/cgroup/cpu", below.strip("/"))
                quota = _text(os.path.join(folder, "cpu.cfs_quota_us"))
                period = _text(os.path.join(folder, "cpu.cfs_period_us"))
            else:
                return None
        except (OSError, ValueError):
            continue
        if quota not in ("max", "-1"):
            return int(quota) / int(period)
    return None


def _text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()
