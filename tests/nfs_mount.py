"""An NFSv4 export as a directory of this machine: FUSE in the kernel, libnfs in a process beside it, the server behind that.

    with mounted(port, folder): ...

The kernel of a container can mount no NFS, but FUSE where it has /dev/fuse. What processes of an experiment do in the directory
is done on the server, one call after another. Attributes are asked for each time, so what the caches of a kernel's own NFS client
would do is not shown.

Debian package: fuse3. PyPI: mfusepy. Only soak tests use it; where something is missing they fail.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROGRAM = Path(__file__).with_name("nfs_fuse.py")
_SECONDS = 30.0


@contextmanager
def mounted(port: int, folder: Path) -> Iterator[str]:
    """The export of the server on `port`, in `folder` as long as the block runs."""
    folder.mkdir()
    words = [sys.executable, str(_PROGRAM), str(port), str(folder)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + _SECONDS
            while not os.path.ismount(folder):
                assert process.poll() is None, f"nothing is mounted: {process.stderr.read()}"
                assert time.monotonic() < deadline, f"nothing is mounted after {_SECONDS} s"
                time.sleep(0.02)
            yield str(folder)
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=False, stderr=subprocess.DEVNULL)
            process.terminate()
