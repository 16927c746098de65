"""A census of what an experiment has on a machine: its processes, memory, temporary files, and files as they are.

    before = Census.take(token, tempfile.gettempdir())
    ...
    assert Census.take(token, tempfile.gettempdir()).since(before) == []

Knows this machine as `/proc` and the file system show it. It refuses to know what ought to be there, and ends nothing.
Linux only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Census", "fingerprint", "memory_files", "processes_of"]

_MEMORY_FILE = "/memfd:holdfast"
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - looked at, never written


@dataclass(frozen=True)
class Census:
    """What was there at one moment.

    Attributes:
        processes: Pid → command line, of the living processes that carry the token.
        files: Paths below the places that were looked at, shared memory included.
        memory: In-memory files (what `put` keeps, an engine's job) that those processes or this one have open or mapped, by
            inode, with the pids.
    """

    processes: dict[int, str]
    files: frozenset[str]
    memory: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def take(cls, token: str, *places: str) -> Census:
        """Looks around.

        Args:
            token: How the processes' `HOLDFAST_TOKEN` begins: `<experiment id>.` for all epochs of one experiment.
            places: Directories for temporary files; only what stands directly in them is counted.
        """
        names = [os.path.join(place, name) for place in (_SHARED_MEMORY, *places) for name in _listed(place)]
        processes = processes_of(token)
        return cls(processes, frozenset(names), memory_files({*processes, os.getpid()}))

    def since(self, before: Census) -> list[str]:
        """What is here now and was not then, one line each."""
        processes = [f"process {pid}: {command}" for pid, command in self.processes.items() if pid not in before.processes]
        memory = [f"in-memory file {inode} held by {pids}" for inode, pids in self.memory.items() if inode not in before.memory]
        return processes + sorted(self.files - before.files) + memory


def processes_of(token: str) -> dict[int, str]:
    """The living processes whose `HOLDFAST_TOKEN` begins with `token`, with their command lines.

    Processes that a trial started count, in whatever group or session they are, as long as they kept their environment. Dead
    ones that only wait to be reaped do not. The calling process counts when it carries the token itself.

    Raises:
        ValueError: The token is empty: every process would match.
    """
    if not token:
        raise ValueError("an empty token means every process; give <experiment id>. or a whole token")
    wanted = f"HOLDFAST_TOKEN={token}".encode()
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile, or belongs to somebody else
                with open(f"/proc/{name}/environ", "rb") as file:
                    environment = file.read()
                if environment.startswith(wanted) or b"\0" + wanted in environment:
                    with open(f"/proc/{name}/cmdline", "rb") as file:
                        found[int(name)] = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def memory_files(pids: Iterable[int]) -> dict[int, list[int]]:
    """The in-memory files of holdfast that some of these processes have open or mapped: by inode, which ones."""
    found: dict[int, list[int]] = {}
    for pid in pids:
        inodes: set[int] = set()
        with contextlib.suppress(OSError):  # it ended meanwhile, or belongs to somebody else
            for name in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{name}"
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    if os.readlink(path).startswith(_MEMORY_FILE):
                        inodes.add(os.stat(path).st_ino)
            with open(f"/proc/{pid}/maps", errors="replace") as file:
                inodes.update(int(line.split()[4]) for line in file if _MEMORY_FILE in line)
        for inode in inodes:
            found.setdefault(inode, []).append(pid)
    return found


def fingerprint(root: str) -> dict[str, str]:
    """Each file, link and directory below `root`, with a hash of its mode and content: equal when nothing was changed."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            digest = hashlib.sha256(f"{os.lstat(path).st_mode:o}".encode())
            if os.path.islink(path):
                digest.update(os.fsencode(os.readlink(path)))
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    digest.update(file.read())
            found[os.path.relpath(path, root)] = digest.hexdigest()
    return found


def _listed(place: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(place)
    return []
