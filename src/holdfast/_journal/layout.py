"""Where the journal's files lie below the experiment's directory.

Knows names only. It refuses to know what is in the files and in which order they are written.
"""

from __future__ import annotations

__all__ = [
    "BIRTH",
    "CUT",
    "EPOCHS",
    "JOURNAL",
    "PACKS",
    "SNAPSHOTS",
    "beat_path",
    "claim_path",
    "cut_path",
    "epoch_of",
    "pack_path",
    "pack_range",
    "seal_path",
    "segment_numbers",
    "segment_path",
    "snapshot_path",
]

JOURNAL = "journal"
BIRTH = "journal/birth"
EPOCHS = "journal/epochs"
PACKS = "journal/packs"
SNAPSHOTS = "journal/snapshots"
CUT = "journal/cut"


def claim_path(epoch: int) -> str:
    """The file whose exclusive creation makes its creator the driver of `epoch`; never removed."""
    return f"{EPOCHS}/{epoch:08d}"


def seal_path(epoch: int) -> str:
    """The file that ends `epoch` for good; never removed."""
    return f"{EPOCHS}/{epoch:08d}.seal"


def beat_path(epoch: int) -> str:
    """The heartbeat of `epoch`: it grows by a byte per period."""
    return f"{EPOCHS}/{epoch:08d}.beat"


def segment_path(epoch: int, segment: int) -> str:
    """The `segment`-th file of records of `epoch`, from 0."""
    return f"{JOURNAL}/{epoch:08d}-{segment:04d}.log"


def epoch_of(name: str) -> int:
    """The epoch that a file among the segments, claims, seals and beats belongs to, by its name; 0 where to none."""
    return int(name[:8]) if name[:8].isdigit() and name[8:9] in {"", "-", "."} else 0


def segment_numbers(names: list[str], epoch: int) -> list[int]:
    """The numbers of the segments of `epoch` among the names in the journal's directory, sorted."""
    prefix = f"{epoch:08d}-"
    return sorted(int(name[9:-4]) for name in names if name.startswith(prefix) and name.endswith(".log"))


def pack_path(first: int, last: int) -> str:
    """The file that holds the segments of the epochs `first` to `last`."""
    return f"{PACKS}/{first:08d}-{last:08d}.pack"


def pack_range(name: str) -> tuple[int, int] | None:
    """The epochs that a file among the packs holds, by its name; None where it is no pack's name."""
    first, dash, last = name.removesuffix(".pack").partition("-")
    if not name.endswith(".pack") or not dash or not (first + last).isdigit():
        return None
    return int(first), int(last)


def snapshot_path(epoch: int, position: int) -> str:
    """A snapshot at `position`, taken by the driver of `epoch`."""
    return f"{SNAPSHOTS}/{epoch:08d}-{position:012d}.snap"


def cut_path(epoch: int, segment: int, offset: int) -> str:
    """Where the bytes go that a seal cuts off."""
    return f"{CUT}/{epoch:08d}-{segment:04d}-{offset}"
