"""`copy` and `rm`: whole or not at all, never a live experiment, never what is not holdfast's."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from holdfast._core.events import EpochStarted
from holdfast._core.policy import Resume
from holdfast._journal import Owner, exists, verify
from holdfast.cli import moving
from holdfast.cli.verbs import holdfast
from holdfast.errors import StorageError
from holdfast.storage.local import LocalStorage
from holdfast.testing.census import fingerprint
from journal_tools import put
from stories import Story, on_disk


def run(*arguments, code=0, answer=None) -> str:
    result = CliRunner().invoke(holdfast, list(map(str, arguments)), input=answer)
    assert result.exit_code == code, result.output
    return result.output


def told() -> Story:
    """Two trials, the first begun anew in another directory."""
    story = Story(max_failures=0)
    first, second = story.suggest(), story.suggest()
    story.start(first)
    story.fail(first)
    story.start(second)
    story.report(second)
    story.complete(second)
    story.finish()
    story.epoch(errored="restart")
    story.finish("interrupted")
    return story


def directories_of(story: Story) -> list[str]:
    old = "train_abcde_00000_0_lr=0"
    assert story.state.at(0).dirname != old
    return [old, *(trial.dirname for trial in story.state.trials.values())]


@pytest.fixture
def experiment(tmp_path) -> Path:
    story = told()
    root = tmp_path / "exp"
    on_disk(story, root)
    for name in directories_of(story):
        (root / name).mkdir()
        (root / name / "model.tmp-1").write_text("weights")
    (root / "logs").mkdir()
    (root / "logs" / "abcde_00000-1.log").write_text("printed")
    (root / "pbt_global.txt").write_text("[]")
    (root / "journal" / ".tmp-half").write_text("half")
    (root / "link").symlink_to("/etc/hostname")
    return root


def live(root: Path, *, here: bool) -> None:
    """Makes this process the driver, or one of a machine that is not this one."""
    me = Owner.of_this_process()
    boot = me.boot_id if here else "another"
    story = Story()
    story.add(EpochStarted(2, {"cpu": 2.0}, Resume(), "local", me.host, me.pid, boot, me.start_ticks, {}, {}))
    on_disk(story, root)


def test_a_copy_is_the_same_experiment(tmp_path, experiment):
    before = fingerprint(str(experiment))
    text = run("copy", experiment, tmp_path / "copy")
    assert text.startswith(f"{experiment} -> {tmp_path / 'copy'}")
    assert fingerprint(str(experiment)) == before
    copied = fingerprint(str(tmp_path / "copy"))
    assert set(before) - set(copied) == {"journal/.tmp-half"}
    assert os.readlink(tmp_path / "copy" / "link") == "/etc/hostname"
    assert verify(LocalStorage(tmp_path / "copy")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "exp"]


def test_a_copy_that_fails_leaves_nothing(tmp_path, experiment, monkeypatch):
    def full(path: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(moving, "_sync", full)
    assert "No space left" in run("copy", experiment, tmp_path / "copy", code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["exp"]


def test_a_copy_of_what_is_damaged_or_changes_meanwhile_is_refused(tmp_path, experiment, monkeypatch):
    copy = moving._copy

    def while_a_driver_begins(root: str, staged: str) -> None:
        copy(root, staged)
        journal = moving.open_journal(LocalStorage(root), owner=Owner.of_this_process(), clock=moving.SystemClock())
        me = Owner.of_this_process()
        put(journal, [EpochStarted(journal.epoch, {}, Resume(), "local", me.host, me.pid, "", 0, {}, {})], 99.0, 99.0)
        journal.close()

    monkeypatch.setattr(moving, "_copy", while_a_driver_begins)
    assert "took" in run("copy", experiment, tmp_path / "copy", code=1)
    monkeypatch.undo()
    log = min((experiment / "journal").glob("*.log"))
    log.write_bytes(log.read_bytes()[:-40] + b"x" * 40)
    assert "nothing was copied" in run("copy", experiment, tmp_path / "copy", code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["exp"]


def test_a_destination_must_be_free_and_elsewhere(tmp_path, experiment):
    (tmp_path / "there").mkdir()
    assert "is there already" in run("copy", experiment, tmp_path / "there", code=2)
    assert "no directory" in run("copy", experiment, tmp_path / "none" / "copy", code=2)
    assert "in the experiment itself" in run("copy", experiment, experiment / "copy", code=2)


@pytest.mark.parametrize("verb", ["copy", "rm"])
def test_a_live_experiment_is_refused(tmp_path, monkeypatch, verb):
    live(tmp_path / "exp", here=True)
    before = fingerprint(str(tmp_path / "exp"))
    more = [tmp_path / "copy"] if verb == "copy" else ["--yes"]
    assert f"pid {os.getpid()} on" in run(verb, tmp_path / "exp", *more, code=1)
    assert fingerprint(str(tmp_path / "exp")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["exp"]


def test_a_driver_that_cannot_be_seen_is_known_by_its_heartbeat(tmp_path, monkeypatch):
    live(tmp_path / "exp", here=False)
    (tmp_path / "exp" / "journal" / "epochs" / "00000002.seal").unlink()
    beat = tmp_path / "exp" / "journal" / "epochs" / "00000002.beat"

    class Clock:
        now = 0.0
        beats = True

        def monotonic(self) -> float:
            return Clock.now

        def sleep(self, seconds: float) -> None:
            Clock.now += seconds
            if Clock.beats:
                beat.write_bytes(b"." * int(Clock.now * 10))

    monkeypatch.setattr(moving, "SystemClock", Clock)
    assert "not copied" in run("copy", tmp_path / "exp", tmp_path / "copy", code=1)
    Clock.beats = False
    assert "verified" in run("copy", tmp_path / "exp", tmp_path / "copy")


def test_rm_asks_and_removes_the_whole(tmp_path, experiment):
    (experiment / "link").unlink()
    assert "stays" in run("rm", experiment, answer="n\n")
    assert exists(LocalStorage(experiment))
    assert "2 trials" in run("rm", experiment, answer="y\n")
    assert list(tmp_path.iterdir()) == []


def test_rm_leaves_what_is_not_holdfasts(tmp_path, experiment):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    story = told()
    restarted = experiment / story.state.at(0).dirname
    (restarted / "model.tmp-1").unlink()
    restarted.rmdir()
    restarted.symlink_to(outside)  # a trial's directory that leads elsewhere: the link goes, what it leads to stays
    (experiment / "notes.txt").write_text("mine")
    text = run("rm", experiment, "--yes")
    assert "but for what is not holdfast's: link, notes.txt" in text
    assert sorted(path.name for path in experiment.iterdir()) == ["link", "notes.txt"]
    assert (outside / "precious").read_text() == "mine"


@pytest.mark.parametrize("name", ["../outside", "a/b", "/etc", "..", "journal"])
def test_a_name_in_the_journal_leads_nowhere_else(tmp_path, name):
    (tmp_path / "outside").mkdir()
    story = Story()
    trial = story.suggest()
    record = story.records[-1]
    story.records[-1] = msgspec.structs.replace(record, event=msgspec.structs.replace(record.event, dirname=name))
    story.start(trial)
    on_disk(story, tmp_path / "exp")
    run("rm", tmp_path / "exp", "--yes")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert Path("/etc/hostname").exists()


def test_an_rm_that_ends_half_way_can_be_given_again(tmp_path, experiment, monkeypatch):
    (experiment / "link").unlink()
    delete = LocalStorage.delete

    def some(self, path: str) -> None:
        if path == "definitions":
            raise StorageError(5, "the disk refuses")
        delete(self, path)

    monkeypatch.setattr(LocalStorage, "delete", some)
    assert "the disk refuses" in run("rm", experiment, "--yes", code=1)
    monkeypatch.undo()
    assert exists(LocalStorage(experiment))
    run("rm", experiment, "--yes")
    assert list(tmp_path.iterdir()) == []


def test_an_rm_that_ends_behind_the_journals_end_can_be_given_again(tmp_path, experiment, monkeypatch):
    (experiment / "link").unlink()
    monkeypatch.setattr(moving, "_finish", lambda _: [])
    run("rm", experiment, "--yes")
    assert not exists(LocalStorage(experiment))
    assert os.listdir(experiment) != []
    monkeypatch.undo()
    run("rm", experiment)
    assert list(tmp_path.iterdir()) == []


def test_what_a_damaged_journal_names_is_not_guessed(tmp_path, experiment):
    log = min((experiment / "journal").glob("*.log"))
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 0xFF
    log.write_bytes(data)
    before = fingerprint(str(experiment))
    assert "remove" in run("rm", experiment, "--yes", code=1)
    assert fingerprint(str(experiment)) == before
