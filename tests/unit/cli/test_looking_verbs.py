"""`best`, `watch`, `export`, `diff`, `logs --json` and what a shell completes, on experiments told by hand."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from holdfast._core.events import EpochStarted
from holdfast._core.policy import Resume
from holdfast._journal import Owner, open_journal
from holdfast.cli.verbs import holdfast
from holdfast.cli.watching import Watch
from holdfast.clock import SystemClock
from holdfast.storage.local import LocalStorage
from journal_tools import put
from stories import Story, on_disk


def run(*arguments, code=0) -> str:
    result = CliRunner().invoke(holdfast, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result.output


def told(*, losses=(3.0, 1.0, 2.0), **policy) -> Story:
    """Three trials of two rows; the second is best by its newest loss, the first by its best."""
    story = Story(metric="loss", mode="min", num_samples=3, **policy)
    for number, loss in enumerate(losses):
        name = story.suggest({"lr": 0.1 * number, "net": {"layers": number}, "sizes": (8, number)})
        story.start(name)
        story.report(name, {"loss": 0.5 if number == 0 else 9.0, "nested": {"x": number}})
        story.report(name, {"loss": loss, "nested": {"x": number}, **({"late": [1, 2]} if number else {})})
        story.complete(name)
    story.finish()
    return story


@pytest.fixture
def experiment(tmp_path):
    on_disk(told(), tmp_path / "exp")
    return tmp_path / "exp"


def test_best_tells_the_trial_and_its_places(experiment):
    text = run("best", experiment)
    assert text.splitlines()[0] == "abcde_00001  loss=1 (min, last)  TERMINATED after 2 rows"
    assert "net/layers=1" in text
    assert "checkpoint  none is kept" in text
    found = json.loads(run("best", experiment, "--json", "--scope", "all"))
    assert (found["trial_id"], found["value"], found["rows"]) == ("abcde_00000", 0.5, 2)
    assert found["directory"].startswith(str(experiment))
    assert "abcde_00000" in run("best", experiment, "--mode", "max")


def test_best_says_what_is_missing(tmp_path, experiment):
    assert "no trial" not in run("best", experiment, "--metric", "accuracy", code=1)
    on_disk(Story(), tmp_path / "other")
    assert "names no metric: give --metric NAME" in run("best", tmp_path / "other", code=2)


def test_export_has_the_same_columns_in_each_form(tmp_path, experiment):
    lines = list(csv.DictReader(io.StringIO(run("export", experiment))))
    assert [line["trial_id"] for line in lines] == ["abcde_00000", "abcde_00001", "abcde_00002"]
    assert [(line["loss"], line["late"], line["config/net/layers"]) for line in lines[:2]] == [
        ("3.0", "", "0"),
        ("1.0", "[1,2]", "1"),
    ]
    rows = [json.loads(line) for line in run("export", experiment, "--rows", "-f", "jsonl").splitlines()]
    assert [(row["trial_id"], row["training_iteration"]) for row in rows[:3]] == [
        ("abcde_00000", 1),
        ("abcde_00000", 2),
        ("abcde_00001", 1),
    ]
    assert rows[3]["nested/x"] == 1

    pyarrow = pytest.importorskip("pyarrow.parquet")
    assert run("export", experiment, "-o", tmp_path / "all.parquet", "--rows").endswith("all.parquet: 6 rows\n")
    table = pyarrow.read_table(tmp_path / "all.parquet").to_pylist()
    assert [row["loss"] for row in table] == [row["loss"] for row in rows]
    assert (table[3]["late"], table[3]["config/sizes"]) == ("[1,2]", "[8,1]")
    assert set(table[0]) == set().union(*rows)


def test_export_writes_no_other_file(tmp_path, experiment):
    before = sorted(tmp_path.rglob("*"))
    (tmp_path / "there.csv").write_text("mine")
    assert "--force" in run("export", experiment, "-o", tmp_path / "there.csv", code=2)
    assert (tmp_path / "there.csv").read_text() == "mine"
    run("export", experiment, "-o", tmp_path / "there.csv", "--force")
    assert (tmp_path / "there.csv").read_text().startswith("trial_id,")
    assert "lies in the experiment" in run("export", experiment, "-o", experiment / "logs.csv", code=2)
    assert "no directory" in run("export", experiment, "-o", tmp_path / "none" / "x.csv", code=2)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "there.csv"])


def test_export_names_the_extra_that_is_missing(tmp_path, experiment, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'holdfast[parquet]'" in run("export", experiment, "-o", tmp_path / "x.parquet", code=1)


def test_values_that_parquet_has_no_type_for_become_text(tmp_path):
    pyarrow = pytest.importorskip("pyarrow.parquet")
    story = Story()
    for value in (1, 2.5, "three", {"a": 1}, None, True):
        name = story.suggest({"mixed": value, "number": 1 if value == 1 else 2.5, "large": 2**70})
        story.start(name)
        story.report(name)
    on_disk(story, tmp_path / "exp")
    run("export", tmp_path / "exp", "-o", tmp_path / "x.parquet")
    table = pyarrow.read_table(tmp_path / "x.parquet").to_pydict()
    assert table["config/mixed"] == ["1", "2.5", "three", None, None, "True"]
    assert table["config/mixed/a"] == [None, None, None, 1, None, None]
    assert table["config/large"][0] == "1180591620717411303424"
    assert table["config/number"] == [1.0, 2.5, 2.5, 2.5, 2.5, 1.0]


def test_diff_of_experiments_shows_job_and_results(tmp_path, experiment):
    on_disk(told(losses=(3.0, 1.5, 2.0), max_failures=0), tmp_path / "other")
    text = run("diff", experiment, tmp_path / "other", code=1)
    assert "max_failures" in text
    assert "best loss" in text
    whole = json.loads(run("diff", experiment, tmp_path / "other", "--json", code=1))
    assert whole["job"] == {"max_failures": [2, 0]}
    assert whole["results"] == {"abcde_00001 | abcde_00001  loss": [1.0, 1.5]}
    assert whole["differs"] is True
    assert run("diff", experiment, experiment) == "no difference\n"


def test_diff_of_trials_shows_configurations_and_results(experiment):
    whole = json.loads(run("diff", experiment / "0", experiment / "abcde_00001", "--json", code=1))
    assert whole["config"] == {"lr": [0.0, 0.1], "net/layers": [0, 1], "sizes": [[8, 0], [8, 1]]}
    assert whole["results"] == {"loss": [3.0, 1.0], "nested/x": [0, 1], "late": [None, [1, 2]]}
    assert whole["trial"] == {}
    assert "late" in run("diff", experiment / "0", experiment / "1", code=1)
    assert "both be experiments, or both trials" in run("diff", experiment, experiment / "1", code=2)
    assert "There is no trial '7'" in run("diff", experiment / "0", experiment / "7", code=2)


def test_watch_shows_what_is_there_once(experiment):
    picture = run("watch", experiment, "--once")
    assert picture.count("3 of 3 trials done") == 1, "drawn once"
    assert "best: loss=" in picture
    assert "\x1b" not in picture
    assert "terminated after" not in picture, "how it stands, not what happened"
    lines = run("watch", experiment).splitlines()
    assert sum("terminated after 2 rows" in line for line in lines) == 3
    [line] = run("watch", experiment, "--json").splitlines()  # it has ended: nothing is waited for
    assert json.loads(line)["best"]["trial_id"] == "abcde_00001"


def test_the_help_names_the_modes(experiment):
    for verb in ("show", "best", "ls", "watch"):
        assert "[min|max]" in run(verb, "--help").replace("max|min", "min|max")
    assert "Invalid value for '--mode'" in run("show", experiment, "--mode", "", code=2)


def test_watch_follows_across_drivers_to_the_end(tmp_path, capsys):
    """A driver is killed, the next one ends the job: each look is one step of the story."""
    me = Owner.of_this_process()
    story = Story(metric="loss", mode="min", num_samples=1)
    name = story.suggest()
    story.start(name)
    story.report(name, {"loss": 1.0})
    killed = len(story.records)
    story.lose(name)
    story.add(EpochStarted(2, {"cpu": 2.0}, Resume(), "local", me.host, me.pid, me.boot_id, me.start_ticks, {}, {}))
    story.start(name)
    story.report(name, {"loss": 0.5})
    story.complete(name)
    story.finish()
    first = Story()
    first.records = story.records[:killed]
    storage = on_disk(first, tmp_path)
    rest = story.records[killed:]

    def pause() -> None:
        journal = open_journal(storage, owner=me, clock=SystemClock(), takeover=True, threads=False)
        for record in rest:
            put(journal, [record.event], record.time, record.wall)
        rest.clear()
        journal.close()

    Watch(LocalStorage(tmp_path), verbose=0, pause=pause).show()
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(look["trials"], look["best"]["value"]) for look in looks] == [({"RUNNING": 1}, 1.0), ({"TERMINATED": 1}, 0.5)]


def test_watch_says_where_no_driver_is_at_work(tmp_path):
    me = Owner.of_this_process()
    story = Story()
    story.add(EpochStarted(2, {"cpu": 2.0}, Resume(), "local", me.host, me.pid, me.boot_id, me.start_ticks + 1, {}, {}))
    on_disk(story, tmp_path)
    assert "no driver is at work" in run("watch", tmp_path, "--once")


def test_watch_on_a_terminal_draws_the_drivers_own_table(experiment, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    Watch(LocalStorage(experiment)).show()
    assert "3 of 3 trials done" in capsys.readouterr().out


def test_watch_ends_when_nobody_reads_any_more(tmp_path, monkeypatch):
    story = Story()
    story.start(story.suggest())
    on_disk(story, tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    waits = []

    def pause() -> None:
        waits.append(1)
        raise KeyboardInterrupt

    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt), open(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        Watch(LocalStorage(tmp_path), pause=pause).show()
    assert waits == []


def test_logs_as_json_have_a_line_each(tmp_path):
    story = Story()
    name = story.suggest()
    story.start(name)
    story.fail(name)
    story.start(name)
    on_disk(story, tmp_path)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / f"{name}-1.log").write_bytes(b"one\n\xfftwo")
    (tmp_path / "logs" / f"{name}-2.log").write_text("three\n")
    lines = [json.loads(line) for line in run("logs", tmp_path, "0", "--json").splitlines()]
    assert [(line["attempt"], line["line"]) for line in lines] == [(1, "one"), (1, "\ufffdtwo"), (2, "three")]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell):
    if shell == "bash" and subprocess.run(["bash", "-c", "exit"], check=False).returncode:
        pytest.skip("click asks bash for its version")
    assert "_HOLDFAST_COMPLETE" in run("completion", shell)


def completed(*words: str) -> list[str]:
    *before, last = words
    return [item.value for item in ShellComplete(holdfast, {}, "holdfast", "_HOLDFAST_COMPLETE").get_completions(before, last)]


def test_a_shell_completes_verbs_and_trials(experiment):
    assert completed("wa") == ["watch"]
    assert completed("show", str(experiment), "abcde_00001") == ["abcde_00001"]
    assert completed("logs", str(experiment), "") == ["abcde_00000", "abcde_00001", "abcde_00002"]
    assert completed("logs", str(experiment / "nothing"), "") == []
