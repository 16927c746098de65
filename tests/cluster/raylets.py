"""Clusters of real raylets on this machine, for tests. Each test module has its own, so that none outlives it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

_QUIET = {
    "RAY_AUTH_MODE": "disabled",  # else Ray writes a token into the developer's home
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@contextmanager
def one_node_cluster(cpus: float = 2) -> Iterator[str]:
    """This process connected to a cluster of one node; its address."""
    import ray

    os.environ.update(_QUIET)
    try:
        context = ray.init(
            address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20
        )
        yield str(context.address_info["gcs_address"])
    finally:
        ray.shutdown()
        for name in _QUIET:
            os.environ.pop(name, None)


def ours_on_the_cluster() -> list[str]:
    """What of the engine's own is on this machine's raylets now: processes of actors, and placement groups not removed."""
    from ray.util import placement_group_table

    titles = [" ".join(process.info["cmdline"] or []).strip() for process in psutil.process_iter(["cmdline"])]
    actors = [title for title in titles if title.startswith(("ray::Post", "ray::Mailbox"))]
    return actors + [group["placement_group_id"] for group in placement_group_table().values() if group["state"] != "REMOVED"]
