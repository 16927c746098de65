"""`holdfast run SCRIPT`: starts a driver's script again when it dies.

Knows processes and exit codes. Refuses to know experiments: that a script which is started again goes on where it was is the
script's own doing (`can_restore`, or `if_exists="resume"`).

The script runs in a process group of its own, so that Ctrl+C, and a signal sent to the whole job, reach it once: through this
process, which passes them on. What it would read from stdin is empty, because no one could answer after a restart.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import NamedTuple

import click

__all__ = ["Patience", "Run", "meaning", "run"]

_PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1)
_AGAIN = 75  # EX_TEMPFAIL: what a script exits with that asks to be started again (`RunConfig(exit_on_preemption=True)`)
_USAGE = 2
# Who sends these to a script wants it to end; 128 + the number is what a script exits with that took it as `fit()` does.
_ASKED_TO_END = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1})


class Patience(NamedTuple):
    """How often and how fast a script is started again.

    Attributes:
        restarts: How often in a row.
        delay_s: What is waited before the first time, doubled each time, up to `most_s`.
        most_s: The longest wait.
        healthy_s: A script that ran so long has the count begin anew.
    """

    restarts: int = 10
    delay_s: float = 1.0
    most_s: float = 60.0
    healthy_s: float = 300.0

    def wait_s(self, row: int) -> float:
        """The seconds before restart number `row` in a row, from 1."""
        return min(self.most_s, self.delay_s * 2.0 ** min(row - 1, 60))


class End(NamedTuple):
    """How the script ended: its exit code, or minus the signal that killed it; after how many seconds; whether it was told to."""

    code: int
    seconds: float
    told: bool

    @property
    def final(self) -> bool:
        """Whether it is not to be started again: it is done, misused, or somebody wanted it to end."""
        asked = {128 + number for number in _ASKED_TO_END} | {-number for number in _ASKED_TO_END}
        return self.told or self.code in {0, _USAGE, *asked}

    @property
    def exit_code(self) -> int:
        """What a shell would say of it."""
        return self.code if self.code >= 0 else 128 - self.code


def meaning(code: int) -> str:
    """What an exit code, or minus the number of a signal, says of a driver's script."""
    if code < 0:
        return f"was killed by {_name(-code)}"
    if code == 0:
        return "is done"
    if code == _AGAIN:
        return "exited with 75: it was interrupted and asks to be started again"
    if code - 128 in _ASKED_TO_END:
        return f"exited with {code}: it was ended by {_name(code - 128)}"
    return f"exited with {code}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


class Run:
    """One `holdfast run`: a script, and how often it may be started.

    Signals are not handled but waited for: they are blocked here, and let through in the script.
    """

    def __init__(self, command: list[str], patience: Patience) -> None:
        self._command = command
        self._patience = patience
        self._told = 0  # the first signal that was passed on, or that came while nothing ran
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # nohup: the end of the terminal is nobody's wish
        self._passed_on = [number for number in _PASSED_ON if not (ignored and number == signal.SIGHUP)]
        self._heard = {*self._passed_on, signal.SIGCHLD, signal.SIGTSTP}

    def to_the_end(self) -> int:
        """Runs the script until it is not to be started again; returns the exit code for this process."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._heard)
        try:
            row = 0
            while True:
                end = self._once(before)
                if end.final:
                    if end.code:
                        _say(f"{self._name} {meaning(end.code)}{' as told' if end.told else ''}; it is not started again.")
                    return end.exit_code
                row = 1 if end.seconds >= self._patience.healthy_s else row + 1
                if row > self._patience.restarts:
                    _say(f"{self._name} {meaning(end.code)}; that was {row} times in a row: giving up.")
                    return end.exit_code
                wait_s = self._patience.wait_s(row)
                count = f"restart {row} of {self._patience.restarts}"
                _say(f"{self._name} {meaning(end.code)} after {end.seconds:.1f} s; {count} in {wait_s:g} s.")
                if self._waits(wait_s):
                    _say(f"{_name(self._told)} while waiting: {self._name} is not started again.")
                    return 128 + self._told
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @property
    def _name(self) -> str:
        return os.path.basename(self._command[1])

    def _once(self, mask: set[signal.Signals | int]) -> End:
        """Starts the script and passes signals on until it has ended."""
        began = time.monotonic()
        nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        pid = os.posix_spawn(self._command[0], self._command, os.environ, file_actions=[nothing], setpgroup=0, setsigmask=[*mask])
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return End(os.waitstatus_to_exitcode(status), time.monotonic() - began, bool(self._told))
            number = signal.sigwait(self._heard)
            if number in self._passed_on:
                self._told = self._told or number
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            elif number == signal.SIGTSTP:  # Ctrl+Z: the script stops with us, and goes on with us
                os.killpg(pid, signal.SIGSTOP)
                os.kill(os.getpid(), signal.SIGSTOP)
                os.killpg(pid, signal.SIGCONT)

    def _waits(self, seconds: float) -> bool:
        """Waits; returns whether a signal asked for the end meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            heard = signal.sigtimedwait(self._passed_on, left)
            if heard is not None:
                self._told = heard.si_signo
                return True
        return False


def _say(text: str) -> None:
    click.echo(f"holdfast run: {text}", err=True)


_usual = Patience()


@click.command(
    "run",
    short_help="Run a script, again when it dies.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option(
    "--max-restarts", type=click.IntRange(min=0), default=_usual.restarts, show_default=True, help="How often in a row."
)
@click.option(
    "--delay", type=click.FloatRange(min=0), default=_usual.delay_s, show_default=True,
    help="Seconds before the first restart, doubled with each in a row.",
)  # fmt: skip
@click.option(
    "--max-delay", type=click.FloatRange(min=0), default=_usual.most_s, show_default=True, help="The longest wait, in seconds."
)
@click.option(
    "--healthy-after", type=click.FloatRange(min=0), default=_usual.healthy_s, show_default=True,
    help="A script that ran for so many seconds has the count of restarts begin anew.",
)  # fmt: skip
@click.argument("script", type=click.Path(exists=True, dir_okay=False))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(
    context: click.Context,
    max_restarts: int,
    delay: float,
    max_delay: float,
    healthy_after: float,
    script: str,
    arguments: tuple[str, ...],
) -> None:
    """Run a Python SCRIPT with its ARGUMENTS, and start it again when it dies.

    The script must go on with its experiment when it is started again: RunConfig(name=..., if_exists="resume"), or
    Tuner.can_restore and Tuner.restore.

    It is started again when it was killed, raised an exception, or exited with 75. It is not when it ended well, was misused
    (2), or somebody wanted it to end: a signal that this command passed on, or one that the script says ended it (129, 130,
    131, 138, 143). The exit code is the script's; 128 + the number of the signal where one killed it.
    """
    patience = Patience(max_restarts, delay, max_delay, healthy_after)
    context.exit(Run([sys.executable, script, *arguments], patience).to_the_end())
