from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from holdfast._journal import Owner, open_journal
from holdfast._worker.logs import note_names
from holdfast.cli.logs import Watched
from holdfast.cli.verbs import holdfast
from holdfast.clock import SystemClock
from holdfast.storage.local import LocalStorage
from journal_tools import put
from stories import Story, on_disk


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(holdfast, ["logs", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def told() -> Story:
    """Two trials, the first with a failed and a good attempt."""
    story = Story()
    first, second = story.suggest(), story.suggest()
    story.start(first)
    story.fail(first, ValueError("no luck"))
    story.start(first)
    story.start(second)
    for trial in (first, second):
        story.report(trial, {"loss": 1.0})
        story.complete(trial)
    story.finish()
    return story


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "exp"
    on_disk(told(), path)
    (path / "logs").mkdir()
    (path / "logs" / "abcde_00000-1.log.2").write_text("oldest\n")
    (path / "logs" / "abcde_00000-1.log.1").write_text("older\n")
    (path / "logs" / "abcde_00000-1.log").write_text("first attempt, no line's end")
    (path / "logs" / "abcde_00000-2.log").write_bytes(b"second attempt \x1b[31m\xff\n")
    return path


def test_all_attempts_in_order_each_with_a_line_before_it(experiment: Path) -> None:
    heads, lines = [], []
    for line in run(experiment, 0).splitlines():
        (heads if line.startswith("==>") else lines).append(line)
    assert lines == ["oldest", "older", "first attempt, no line's end", "second attempt \x1b[31m\ufffd"]
    assert ["attempt 1" in heads[0], "failed" in heads[0], "attempt 2" in heads[1], "completed" in heads[1]] == [True] * 4


@pytest.mark.parametrize("wanted", ["abcde_00000", "train_abcde_00000", "0", "00000"])
def test_a_trial_may_be_named_in_several_ways(experiment: Path, wanted: str) -> None:
    assert "second attempt" in run(experiment, wanted)


def test_the_beginning_of_an_id_must_name_one_trial(experiment: Path) -> None:
    assert "begins the ids of 2 trials (abcde_00000, abcde_00001)" in run(experiment, "abc", code=2)
    assert "There is no trial 'xyz'" in run(experiment, "xyz", code=2)
    assert "There is no trial ''" in run(experiment, "", code=2)


def test_one_attempt(experiment: Path) -> None:
    text = run(experiment, 0, "--attempt", 2)
    assert "second attempt" in text
    assert "first attempt" not in text
    assert "has no attempt 3; it has had 2" in run(experiment, 0, "--attempt", 3, code=2)
    assert "ended without an attempt 3" in run(experiment, 0, "--attempt", 3, "-f", code=2)


def test_an_attempt_that_printed_nothing_says_so(experiment: Path) -> None:
    assert run(experiment, 1).splitlines()[1:] == ["(nothing is kept)"]


def test_nothing_is_written_and_following_a_trial_that_is_over_ends(experiment: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in experiment.rglob("*"))
    assert run(experiment, 0, "-f") == run(experiment, 0)
    assert sorted((path, path.stat().st_mtime_ns) for path in experiment.rglob("*")) == before


def test_files_that_the_user_named_are_shown_once(experiment: Path) -> None:
    note_names(str(experiment / "logs"), ("out.txt", "err.txt"))
    folder = experiment / "train_abcde_00000_0_lr=0"
    folder.mkdir()
    (folder / "out.txt").write_text("all that was printed\n")
    (folder / "err.txt").write_text("all that was complained\n")
    assert run(experiment, 0).splitlines()[1:] == ["all that was printed"]
    assert run(experiment, 0, "--stderr").splitlines()[1:] == ["all that was complained"]


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname"])
def test_a_name_that_leads_out_of_the_experiment_is_not_followed(experiment: Path, name: str) -> None:
    (experiment.parent / "secret").write_text("secret")
    note_names(str(experiment / "logs"), (name, name))
    text = run(experiment, 0, code=1)
    assert "outside the experiment's directory" in text
    assert "secret\n" not in text.replace(name, "")


@pytest.mark.parametrize("part", ["", ".1"])
def test_a_link_that_leads_out_of_the_experiment_is_not_followed(experiment: Path, part: str) -> None:
    (experiment.parent / "secret").write_text("kept secret")
    log = experiment / "logs" / f"abcde_00000-1.log{part}"
    log.unlink()
    log.symlink_to(experiment.parent / "secret")
    assert "kept secret" not in run(experiment, 0)


def test_no_experiment_is_a_usage_error(tmp_path: Path) -> None:
    assert "There is no experiment at" in run(tmp_path, 0, code=2)


def test_a_follower_goes_on_across_rotations_and_into_the_next_attempt(tmp_path: Path) -> None:
    """What is printed and put on record meanwhile happens whenever the reader has nothing to give, instead of a pause."""
    path, story = tmp_path / "exp", Story()
    on_disk(story, path)
    journal = open_journal(LocalStorage(str(path)), owner=Owner.of_this_process(), clock=SystemClock(), threads=False)
    story.epoch()

    def put_on_record() -> None:
        new = story.records[journal.next_position :]
        put(journal, [record.event for record in new])

    first = story.suggest()
    story.start(first)
    put_on_record()
    (path / "logs").mkdir()
    log = path / "logs" / "abcde_00000-1.log"
    log.write_text("one\n")

    def rotate() -> None:
        os.replace(log, f"{log}.1")
        log.write_text("two\n")

    def fail() -> None:
        with log.open("a") as file:
            file.write("three\n")
        story.fail(first, ValueError("no luck"))
        put_on_record()

    def begin_again() -> None:
        story.start(first)
        put_on_record()
        (path / "logs" / "abcde_00000-2.log").write_text("four\n")

    def complete() -> None:
        story.report(first, {"loss": 1.0})
        story.complete(first)
        put_on_record()

    happenings = iter([rotate, fail, begin_again, complete])

    def happen() -> None:
        next(happenings)()

    watched = Watched(LocalStorage(str(path)), "0", pause=happen)
    text = b"".join(watched.read(follow=True)).decode()
    assert [line for line in text.splitlines() if not line.startswith("==>")] == ["one", "two", "three", "four"]
    assert list(happenings) == []
    journal.close()
