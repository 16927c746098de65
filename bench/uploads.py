"""How fast a worker brings a checkpoint to an S3 server on this machine, beside obstore's own upload of the same files."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from bench.figure import Figure, Target
from bench.process import ENVIRONMENT, ROOT, Rounds, workload

__all__ = ["figures"]

CASES = (("256 MiB", 1, 256 << 20, 7), ("1,000 × 64 KiB", 1000, 64 << 10, 7))


def figures(rounds: Rounds) -> Iterator[Figure]:
    sys.path.append(str(ROOT / "tests"))
    import object_servers

    if not (object_servers.PROGRAMS / "bin" / "ministack").exists():
        raise RuntimeError("no ministack: make .venv-servers/.installed")
    with object_servers.ministack() as server:
        ENVIRONMENT.update(server.environment)
        for name, files, size, times in CASES:
            found = workload("uploads", rounds.folder(), server.uri, files, rounds.many(size), len(rounds.times(times)))
            ours, bare = zip(*found, strict=True)
            yield Figure(
                f"a checkpoint of {name} to ministack", "s", ours, "obstore's put of the same files", bare, Target("ratio", 1.25)
            )
