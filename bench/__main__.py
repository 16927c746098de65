"""`python -m bench [--only GROUP ...] [--quick] [--dir DIR]`: measures, prints one table, writes bench-results.json."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

from bench.figure import Figure, table
from bench.process import ROOT, Rounds

GROUPS = (
    "startup",
    "trials",
    "reports",
    "growth",
    "recovery",
    "retry",
    "checkpoints",
    "uploads",
    "objects",
    "search",
    "decisions",
    "scale",
    "store",
    "ray",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="What holdfast costs, beside what is physically possible."
    )
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--quick", action="store_true", help="one round of a tenth: shows that all runs, measures nothing")
    parser.add_argument("--dir", type=Path, default=ROOT, help="a directory on the disk to measure (default: the repository)")
    chosen = parser.parse_args()

    figures, failed = [], []
    began = time.monotonic()
    for group in chosen.only:
        found, problem = _measure(group, chosen.dir, quick=chosen.quick)
        figures += found
        if problem:
            failed.append(f"{group}: {problem}")
        print(f"{group}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(
        f"\nmedians, {os.cpu_count()} CPUs, Python {platform.python_version()}{', QUICK: not figures' if chosen.quick else ''}\n"
    )
    print(table(figures))
    for line in failed:
        print(f"not measured: {line}")
    written = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "quick": chosen.quick,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "figures": [figure.as_json() for figure in figures],
        "not_measured": failed,
    }
    (ROOT / "bench-results.json").write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n")
    sys.exit(1 if failed else 0)


def _measure(group: str, where: Path, *, quick: bool) -> tuple[list[Figure], str]:
    """The figures of a group, as far as it came, and why it came no further."""
    place = Path(tempfile.mkdtemp(prefix=".bench-", dir=where)).resolve()
    figures: list[Figure] = []
    try:
        for figure in importlib.import_module(f"bench.{group}").figures(Rounds(place, quick=quick)):
            figures.append(figure)  # noqa: PERF402 - what was measured before a failure is kept
    except Exception as problem:  # noqa: BLE001 - one group that fails must not take the others' figures with it
        return figures, f"{type(problem).__name__}: {problem}"
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return figures, ""


if __name__ == "__main__":
    main()
