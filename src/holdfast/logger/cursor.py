"""A cursor: up to which position of the journal the files of finished trials are complete, or a tracker has all.

A file that is only appended to, one short line each time. It is a shortcut: without it, or with one that cannot be
trusted (the machine was restarted, so that what was written may not have reached the disk; or other files were
wanted then), all files are compared with the journal. On a store the files that it vouches for are kept before it is.
"""

from __future__ import annotations

import os

__all__ = ["NAME", "Cursor"]

NAME = ".trial_files"


class Cursor:
    """The cursor file of one experiment.

    Args:
        directory: The experiment's.
        wanted: Which files are written, as a short word; a cursor written for others counts as none.
        name: Of the file.
        until_boot: Whether it counts for nothing once the machine was restarted.
    """

    def __init__(self, directory: str, wanted: str, name: str = NAME, *, until_boot: bool = True) -> None:
        self._path = os.path.join(directory, name)
        self._mark = f" {_boot_id() if until_boot else 'store'} {wanted}\n"

    def read(self) -> int:
        """The position, or -1 where nothing can be trusted."""
        try:
            with open(self._path, "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 4096))
                text = file.read().decode("ascii", "replace")
        except FileNotFoundError:
            return -1
        lines = text[: text.rfind("\n") + 1].splitlines(keepends=True)
        if not lines or not lines[-1].endswith(self._mark) or self._mark.startswith("  "):
            return -1
        position = lines[-1].partition(" ")[0]
        return int(position) if position.isdigit() else -1

    def write(self, position: int) -> None:
        """Says that the files are complete up to a position."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.write(descriptor, f"{position}{self._mark}".encode())
        finally:
            os.close(descriptor)


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""  # a system that does not say: the cursor is then never trusted
