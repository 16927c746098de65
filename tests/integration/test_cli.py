from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from holdfast import __version__
from holdfast._core.events import EpochStarted, ExperimentCreated, InexactFound, Saved
from holdfast._core.policy import Resume
from holdfast._journal import Owner
from holdfast._worker.persist import save
from holdfast.cli.verbs import holdfast
from stories import Story, on_disk


class Trap:
    """Leaves a file behind whenever somebody unpickles it."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return _spring, (self.path,)


def _spring(path: str) -> str:
    Path(path).touch()
    raise RuntimeError("something was unpickled")


def run(*arguments, code=0) -> str:
    result = CliRunner().invoke(holdfast, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result.output


def loads(*arguments, code=0):
    return json.loads(run(*arguments, "--json", code=code))


def told(*, trap=None) -> Story:
    """An experiment of two drivers: a trial that was redone in part, one that failed for good, one that never ran."""
    story = Story(max_failures=0, metric="loss", mode="min", num_samples=3)
    first = story.suggest({"lr": 0.1, "object": Trap(trap)} if trap else {"lr": 0.1})
    story.start(first)
    for loss in (5.0, 4.0, 3.0):
        story.report(first, {"loss": loss})
    second = story.suggest({"lr": 0.2})
    story.start(second)
    story.report(second, {"loss": 7.5, "text": "\x1b[31mred"})
    story.fail(second, ValueError("no luck"))
    story.lose(first)
    story.epoch()
    story.start(first)
    story.report(first, {"loss": 2.0})
    story.report(first, {"loss": 1.0})
    story.complete(first)
    story.suggest({"lr": 0.3})
    story.add(InexactFound("searcher", 12, "another config"))
    story.finish("interrupted")
    return story


def test_ls_lists_what_is_under_a_directory(tmp_path):
    on_disk(told(), tmp_path / "deep" / "one")
    on_disk(Story(), tmp_path / "two")
    (tmp_path / "other").mkdir()
    text = run("ls", tmp_path)
    lines = text.splitlines()
    assert len(lines) == 3
    assert "interrupted" in lines[1]
    assert "1 PENDING, 1 TERMINATED, 1 ERROR" in lines[1]
    assert "loss=1 (abcde_00000)" in lines[1]
    assert [entry["path"] for entry in loads("ls", tmp_path)] == [str(tmp_path / "deep" / "one"), str(tmp_path / "two")]
    assert "No experiments" in run("ls", tmp_path / "other")
    assert "(abcde_00001)" in run("ls", tmp_path, "--metric", "loss", "--mode", "max")


def test_ls_looks_where_experiments_go_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_RESULTS_DIR", str(tmp_path))
    on_disk(told(), tmp_path / "one")
    assert len(loads("ls")) == 1


def test_ls_goes_on_behind_a_damaged_experiment(tmp_path):
    on_disk(told(), tmp_path / "a")
    on_disk(told(), tmp_path / "b")
    damage(tmp_path / "a")
    assert [entry["state"] for entry in loads("ls", tmp_path)] == ["damaged", "interrupted"]
    assert "damaged" in run("ls", tmp_path)


def damage(root) -> None:
    log = min((root / "journal").glob("*.log"))
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 0xFF
    log.write_bytes(data)


def test_show_tells_an_experiment(tmp_path):
    on_disk(told(), tmp_path)
    text = run("show", tmp_path)
    for part in (
        "1 PENDING, 1 TERMINATED, 1 ERROR (asked for: 3); 1 failed attempts",
        "best      abcde_00000  loss=1 (min)  lr=0.1",
        "inexact: searcher from position 12: another config",
        "pid 11 on host",
        "pid 12 on host",
    ):
        assert part in text
    whole = loads("show", tmp_path)
    assert [epoch["reason"] for epoch in whole["epochs"]] == ["", "interrupted"]
    assert [(trial["status"], trial["rows"], trial["attempts"]) for trial in whole["trials_table"]] == [
        ("TERMINATED", 2, 2), ("ERROR", 1, 1), ("PENDING", 0, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("trial", ["abcde_00000", "0", "train_abcde_00000"])
def test_show_tells_a_trial(tmp_path, trial):
    on_disk(told(), tmp_path)
    text = run("show", tmp_path, trial, "--superseded")
    assert "rows (2)" in text
    assert "superseded rows (3)" in text
    assert "lost (driver)" in text
    story = loads("show", tmp_path, trial, "--superseded")
    assert [row["loss"] for row in story["rows"]] == [2.0, 1.0]
    assert [(old["why"], old["row"]["loss"]) for old in story["superseded"]] == [("redone", 5.0), ("redone", 4.0), ("cut", 3.0)]
    assert "superseded" not in loads("show", tmp_path, trial)


def test_show_tells_failures_and_sends_no_control_characters(tmp_path):
    on_disk(told(), tmp_path)
    text = run("show", tmp_path, "1")
    assert "attempt 1 failed (code on host1): no luck" in text
    assert "Traceback: ValueError('no luck')" in text
    assert "the end" in text
    assert "\\x1b[31mred" in text
    assert "\x1b" not in text


def with_checkpoints(root, *, keep=0, finished=True) -> Story:
    source = root / "source"
    source.mkdir(parents=True)
    (source / "weights").write_bytes(b"w" * 1000)
    story = Story(num_to_keep=keep, score_attribute="loss" if keep else "", score_order="min")
    name = story.suggest()
    story.start(name)
    trial = story.state.trial(name)
    where = root / "exp" / trial.dirname
    where.mkdir(parents=True)
    for index in range(3):
        saved = save(str(source), str(where), index, f".staging-{index}")
        row = story.row(name, {"loss": float(index)}, save=True)
        record = story.records.pop()
        story.state.position -= 1
        kept = type(trial.kept[-1])(saved, row.number, 1, 1.0, float(index))
        trial.number -= 1
        trial.kept = trial.kept[:-1]
        trial.next_index = index
        import msgspec

        story.add(msgspec.structs.replace(record.event, saved=Saved(*msgspec.structs.astuple(kept.saved)), score=float(index)))
        story.decide(name)
    if finished:
        story.complete(name)
    on_disk(story, root / "exp")
    return story


def test_show_says_why_checkpoints_are_kept(tmp_path):
    with_checkpoints(tmp_path, keep=3)
    why = [kept["why"] for kept in loads("show", tmp_path / "exp", "0")["checkpoints"]]
    assert why == ["among the best 3 by min loss", "among the best 3 by min loss", "the newest"]
    assert "checkpoint_000002" in run("show", tmp_path / "exp", "0")


def test_show_says_what_a_running_trial_resumes_from(tmp_path):
    with_checkpoints(tmp_path, finished=False)
    why = [kept["why"] for kept in loads("show", tmp_path / "exp", "0")["checkpoints"]]
    assert why == ["all are kept", "all are kept", "the trial resumes from it"]


def test_verify_finds_nothing_wrong_where_nothing_is(tmp_path):
    with_checkpoints(tmp_path)
    assert run("verify", tmp_path / "exp").strip().endswith(": sound")
    assert loads("verify", tmp_path / "exp") == {"path": str(tmp_path / "exp"), "damaged": False, "problems": []}


def test_verify_names_a_damaged_record(tmp_path):
    on_disk(told(), tmp_path)
    damage(tmp_path)
    text = run("verify", tmp_path, code=1)
    assert "damage: journal/" in text
    assert "at byte" in text
    assert loads("verify", tmp_path, code=1)["damaged"] is True
    assert "at byte" in run("show", tmp_path, code=1)


def test_verify_names_a_damaged_and_a_missing_checkpoint(tmp_path):
    story = with_checkpoints(tmp_path)
    where = tmp_path / "exp" / story.state.at(0).dirname
    (where / "checkpoint_000000" / "weights").write_bytes(b"x" * 1000)
    (where / "checkpoint_000001").rename(where / "gone")
    problems = loads("verify", tmp_path / "exp", code=1)["problems"]
    assert [problem["file"].rsplit("/")[-1] for problem in problems] == ["checkpoint_000000", "checkpoint_000001"]
    assert "weights" in problems[0]["problem"]


def test_verify_names_a_missing_and_a_damaged_definition(tmp_path):
    story = Story()
    story.suggest({"object": Trap(tmp_path / "sprung")})
    on_disk(story, tmp_path)
    [definition] = (tmp_path / "definitions").iterdir()
    definition.write_bytes(b"something else")
    assert "is damaged" in run("verify", tmp_path, code=1)
    definition.unlink()
    assert "is missing" in run("verify", tmp_path, code=1)


def test_looking_neither_writes_nor_unpickles_and_takes_a_directory_that_cannot_be_written(tmp_path):
    root, sprung = tmp_path / "exp", tmp_path / "sprung"
    on_disk(told(trap=sprung), root)
    everything = [root, *root.rglob("*")]
    for path in everything:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in everything}
    try:
        for arguments in (
            ("ls", tmp_path),
            ("show", root),
            ("show", root, "0", "--superseded"),
            ("verify", root),
            ("best", root),
        ):
            run(*arguments)
            loads(*arguments)
        for arguments in (
            ("watch", root, "--once"),
            ("export", root),
            ("export", root, "--rows", "-f", "jsonl"),
            ("logs", root, 0),
        ):
            run(*arguments)
        run("diff", root / "0", root / "1", code=1)
        assert "Trap" in run("show", root, "0")
        assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [root, *root.rglob("*")]} == before
        assert not sprung.exists()
    finally:
        for path in everything:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)


def test_a_live_experiment_can_be_looked_at(tmp_path):
    me = Owner.of_this_process()
    story = Story()
    started = EpochStarted(2, {"cpu": 2.0}, Resume(), "local", me.host, me.pid, me.boot_id, me.start_ticks, {}, {})
    story.add(started)
    name = story.suggest()
    story.start(name)
    story.report(name)
    on_disk(story, tmp_path)
    assert loads("ls", tmp_path)[0]["state"] == "running"
    dead = Story()
    dead.add(EpochStarted(2, {"cpu": 2.0}, Resume(), "local", me.host, me.pid, me.boot_id, me.start_ticks + 1, {}, {}))
    on_disk(dead, tmp_path / "dead")
    assert loads("ls", tmp_path / "dead")[0]["state"] == "killed"


def test_bad_usage_is_refused_with_code_2(tmp_path):
    assert "There is no experiment" in run("show", tmp_path, code=2)
    assert "There is no experiment" in run("verify", tmp_path / "nothing", code=2)
    on_disk(told(), tmp_path)
    assert "There is no trial '7'" in run("show", tmp_path, "7", code=2)
    assert "name the TRIAL" in run("show", tmp_path, "--superseded", code=2)
    assert "cannot be read" in run("ls", tmp_path / "nothing", code=2)
    run("dance", code=2)


def test_the_installed_command_answers():
    command = os.path.join(os.path.dirname(sys.executable), "holdfast")
    result = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert __version__ in result.stdout


def test_birth_records_are_all_that_ls_needs(tmp_path):
    story = Story()
    del story.records[1:]
    assert isinstance(story.records[0].event, ExperimentCreated)
    on_disk(story, tmp_path)
    assert loads("ls", tmp_path)[0]["state"] == "never driven"
    assert "trials    none" in run("show", tmp_path)
