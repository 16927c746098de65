"""`holdfast run` makes an experiment heal itself; a copied experiment goes on elsewhere. Real drivers, really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

import holdfast as tune
from holdfast.cli.verbs import holdfast
from holdfast.testing.census import fingerprint
from holdfast.testing.history import check_history
from integration.drivers import Start, Task, acknowledged, acknowledged_count, train, wait_until, wait_until_all_gone

SCRIPT = """
import sys, tempfile, time
from pathlib import Path
import holdfast as tune

def train(config):
    newest = tune.get_checkpoint()
    begin = 0 if newest is None else int(Path(newest.path, "row").read_text())
    for row in range(begin, 12):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "row").write_text(str(row + 1))
            tune.report({"row": row}, checkpoint=tune.Checkpoint.from_directory(folder))
        time.sleep(0.02)

tuner = tune.Tuner(
    train, param_space={"x": tune.uniform(0, 1)}, tune_config=tune.TuneConfig(num_samples=3, max_concurrent_trials=1),
    run_config=tune.RunConfig(name="exp", storage_path=sys.argv[1], if_exists="resume", verbose=0),
)
print([list(result.metrics_dataframe["row"]) == list(range(12)) for result in tuner.fit()])
"""


def drivers_of(process: subprocess.Popen) -> list[int]:
    return [child.pid for child in psutil.Process(process.pid).children()]


def test_a_driver_killed_twice_under_run_ends_its_experiment(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    code = "import sys; from holdfast.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "run", "--delay", "0.1", str(script), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        for rows in (5, 15):
            wait_until(lambda rows=rows: rows_of(tmp_path / "exp") >= rows)
            [driver] = drivers_of(process)
            os.kill(driver, signal.SIGKILL)
            wait_until(lambda driver=driver: driver not in drivers_of(process))
        out, told = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate()
    assert out == "[True, True, True]\n"
    assert process.returncode == 0
    assert told.count("was killed by SIGKILL") == 2


def rows_of(path: Path) -> int:
    """How many rows are on record; fewer where they cannot be read just now."""
    shown = CliRunner().invoke(holdfast, ["export", str(path), "--rows", "-f", "jsonl"])
    return len(shown.output.splitlines()) if shown.exit_code == 0 else 0


def test_a_copy_of_what_a_killed_driver_left_goes_on_and_the_source_stays(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(str(tmp_path / "results"), str(tmp_path / "side"), rows=6, samples=3, every=2)
    killed = start(task, "in_write:12=kill")
    killed.process.communicate()
    wait_until_all_gone(task)
    before = fingerprint(task.path)
    copied = CliRunner().invoke(holdfast, ["copy", task.path, str(tmp_path / "copy")])
    assert copied.exit_code == 0, copied.output
    monkeypatch.setenv("SIDE_LOG", task.side)
    results = tune.Tuner.restore(tmp_path / "copy", trainable=train).fit()
    assert results.errors == []
    assert [len(result.metrics_dataframe) for result in results] == [6] * 3
    assert all(result.path.startswith(str(tmp_path / "copy")) for result in results)
    assert fingerprint(task.path) == before


def test_a_live_experiment_is_neither_copied_nor_removed(tmp_path: Path, start: Start) -> None:
    task = Task(str(tmp_path / "results"), str(tmp_path / "side"), rows=20, samples=2, pace_s=0.05)
    driver = start(task)
    wait_until(lambda: acknowledged_count(task.side) >= 4, doing=driver)
    for words in (["copy", task.path, str(tmp_path / "copy")], ["rm", "--yes", task.path]):
        refused = CliRunner().invoke(holdfast, words)
        assert refused.exit_code == 1
        assert f"is at work (pid {driver.pid}" in refused.output
    assert not (tmp_path / "copy").exists()
    assert driver.finish()["errors"] == []
    assert check_history(task.storage, acknowledged(task.side)) == []


def test_a_finished_experiment_is_removed_whole(tmp_path: Path, start: Start) -> None:
    task = Task(str(tmp_path / "results"), str(tmp_path / "side"), rows=3, samples=2)
    start(task).finish()
    removed = CliRunner().invoke(holdfast, ["rm", "--yes", task.path])
    assert removed.exit_code == 0, removed.output
    assert os.listdir(task.storage_path) == []
