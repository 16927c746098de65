"""The guardian: parent of a driver's server and, through it, of all workers; it outlives them to end them.

It holds a line to the driver and watches the driver's process. When either ends, or the server does, it kills all that is
below it, also what has left its group or session, removes the staging directories of what it killed, and ends. It
imports next to nothing and blocks the signals that a terminal or a scheduler sends (blocked, not ignored: a worker
that is forked undoes that with one call).
"""

from __future__ import annotations

import gc
import os
import select
import signal

from holdfast._worker.processes import become_subreaper, end_descendants

__all__ = ["NOTHING_RAN", "main"]

NOTHING_RAN = b"."
"""What a driver sends before it lets go, when no attempt was running."""


def main(lifeline: int, control: int, place: int, driver: int, experiment_dir: str, nonce: str) -> None:
    """Runs as guardian until the driver or the server is gone. It ends the process.

    Args:
        lifeline: A socket whose other end only the driver holds.
        control: The server's socket to the driver.
        place: An in-memory file with the encoded `Workplace`.
        driver: The driver's pid.
        experiment_dir: Where to remove what unfinished saves leave.
        nonce: Part of the names of this engine's staging directories.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the driver may have had them ignored, as nohup does
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    gc.disable()  # the server freezes what it has loaded and forks; a collection would copy pages for nothing
    guardian = os.getpid()
    server = os.fork()
    if server == 0:
        os.close(lifeline)
        from holdfast.engines.local.server import main as serve

        serve(control, place, guardian)
        os._exit(0)
    os.close(control)
    os.close(place)
    become_subreaper()
    watched = [lifeline, os.pidfd_open(server)]
    try:
        watched.append(os.pidfd_open(driver))
    except ProcessLookupError:
        pass  # the driver is gone already: its line says so too
    ready, _, _ = select.select(watched, [], [])
    end_descendants()
    if lifeline not in ready or os.read(lifeline, 1) != NOTHING_RAN:
        _remove_staging(experiment_dir, nonce)
    os._exit(0)


def _remove_staging(experiment_dir: str, nonce: str) -> None:
    """Removes unfinished checkpoints of the attempts that were killed; those of other drivers have another nonce."""
    for trial in os.scandir(experiment_dir):
        if trial.is_dir(follow_symlinks=False) and trial.name not in ("journal", "logs", "definitions"):
            for entry in os.scandir(trial.path):
                if entry.name.startswith(".staging-") and f"-{nonce}-" in entry.name:
                    import shutil

                    shutil.rmtree(entry.path, ignore_errors=True)
