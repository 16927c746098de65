"""Captures what a real terminal shows, into docs/images: python docs/capture_screens.py (needs tmux).

An experiment with trials that run, fail and are retried is started in a tmux window of 80 and one of 160 columns. When all of
that is on the screen at once, it is captured with its colours and written as SVG.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).parent / "images"
HEIGHT = 24
TMUX = shutil.which("tmux") or sys.exit("tmux is not installed")
PATIENCE_S = 60.0
SOCKET = f"holdfast-docs-{os.getpid()}"

SCRIPT = """
import os, signal, sys, tempfile, time
from pathlib import Path
import holdfast as tune

def train(config):
    rows = 0
    newest = tune.get_checkpoint()
    if newest is not None:
        rows = int(Path(newest.path, "rows").read_text())
    while rows < 40:
        rows += 1
        time.sleep(0.1)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "rows").write_text(str(rows))
            loss = (config["lr"] - 0.03) ** 2 * 100 + config["layers"] * 0.01 + 1 / rows
            tune.report({"loss": loss}, checkpoint=tune.Checkpoint.from_directory(folder))
        number = int(tune.get_context().get_trial_id()[-5:])
        if number == 2 and rows in (10, 14):
            raise RuntimeError("CUDA error: device-side assert triggered")
        if number in (5, 6) and rows == 8 and newest is None:
            os.kill(os.getpid(), signal.SIGKILL)

tune.Tuner(
    train,
    param_space={"lr": tune.loguniform(1e-3, 1e-1), "layers": tune.choice([2, 4, 8]), "optimizer": tune.choice(["sgd", "adam"])},
    tune_config=tune.TuneConfig(metric="loss", mode="min", num_samples=16, seed=5),
    run_config=tune.RunConfig(
        name="tune_mnist", storage_path=sys.argv[1], failure_config=tune.FailureConfig(max_failures=1),
        stop=lambda trial_id, row: False,
    ),
).fit()
"""


def tmux(*words: str) -> str:
    """What tmux prints."""
    return subprocess.run([TMUX, "-L", SOCKET, *words], capture_output=True, text=True, check=True).stdout


def captured(width: int, folder: Path) -> str:
    """The screen with its escape sequences, once it shows trials of all kinds."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = f"clear; HOLDFAST_CPUS=4 {shlex.quote(sys.executable)} {script} {folder / str(width)}"
    tmux("new-session", "-d", "-s", f"w{width}", "-x", str(width), "-y", str(HEIGHT), command)
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        text = tmux("capture-pane", "-p", "-e", "-t", f"w{width}")
        if all(word in text for word in ("failed", "retried", "TERMINATED", "best", "parameters")):
            return text
        time.sleep(0.1)
    sys.exit(f"the screen never showed all that it is to show:\n{text}")


def main() -> None:
    """Captures both widths."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            for width in (80, 160):
                text = captured(width, Path(folder)).rstrip()
                console = Console(record=True, width=width, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
                console.print(Text.from_ansi(text))
                drawn = console.export_svg(title=f"python tune_mnist.py   ({width} columns)")
                # rich names a font that a browser would fetch; the one that is there does as well.
                (IMAGES / f"live-{width}.svg").write_text(re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL))
                print(Text.from_ansi(text).plain)
        finally:
            tmux("kill-server")


if __name__ == "__main__":
    main()
