"""Which file system a path lies on, and whether it can be trusted with a journal.

The journal appends, links and relies on what is written being seen by others at once. Local file systems keep that; network
file systems do not, and one that is not known is not trusted.
"""

from __future__ import annotations

import os
import re

from holdfast.errors import ConfigError

__all__ = ["check_local", "file_system_of"]

LOCAL = frozenset(
    [
        "apfs",
        "aufs",
        "bcachefs",
        "btrfs",
        "ecryptfs",
        "erofs",
        "exfat",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "hfs",
        "hfsplus",
        "jfs",
        "nilfs2",
        "ntfs3",
        "overlay",
        "ramfs",
        "reiserfs",
        "tmpfs",
        "ufs",
        "vfat",
        "xfs",
        "zfs",
    ]
)


def file_system_of(path: str) -> str:
    """The type of the file system that holds `path` (or the nearest directory above it); empty where the system does not say."""
    where = os.path.realpath(path)
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mounts = [line.split(" ") for line in file]
    except OSError:
        return ""
    best, kind = "", ""
    for fields in mounts:
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        inside = where == point or where.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # a later mount on the same point hides the earlier
            best, kind = point, fields[fields.index("-") + 1]
    return kind


def check_local(path: str) -> None:
    """Refuses a path that lies on a network file system, or on one that is not known to be local.

    Raises:
        ConfigError: It does.
    """
    kind = file_system_of(path)
    if kind and kind not in LOCAL:
        raise ConfigError(
            f"{path} lies on a file system of type {kind!r}, which is not known to be local. Appending to a "
            f"journal is safe on local ones only so far ({', '.join(sorted(LOCAL))}): give a storage_path on one of these."
        )
