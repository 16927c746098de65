"""Which file system a path lies on, and whether it can be trusted with a journal that grows.

Such a journal relies on what is appended being seen by others at once. Local file systems keep that; network file systems do not,
and one that is not known is not trusted.
"""

from __future__ import annotations

import os
import re

__all__ = ["LOCAL", "file_system_of", "is_local"]

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


def is_local(path: str) -> bool:
    """Whether a path lies on a file system that is known to be local, or the system does not say."""
    kind = file_system_of(path)
    return not kind or kind in LOCAL
