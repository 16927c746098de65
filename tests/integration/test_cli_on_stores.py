"""The command line on experiments that live on a store."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import holdfast as tune
import object_servers
from holdfast.cli.verbs import holdfast
from holdfast.storage.opening import inside, open_storage
from integration.drivers import Start, Task, acknowledged_count, wait_until

pytestmark = object_servers.EVERYWHERE
SPACE = {"x": tune.grid_search([1, 2]), "fails": tune.grid_search([False, True])}


def train(config: dict) -> None:
    print("printed by", config["x"])
    for i in range(3):
        tune.report({"score": config["x"] * i})
    if config["fails"]:
        raise ValueError("boom")


@pytest.fixture(scope="module")
def results(server: object_servers.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A place with one experiment, "exp", that nothing here changes; the environment leads there."""
    place = inside(server.uri, "results")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        patch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        tune.Tuner(
            train,
            param_space=SPACE,
            tune_config=tune.TuneConfig(metric="score", mode="max"),
            run_config=tune.RunConfig(name="exp", storage_path=place, verbose=0, log_to_file=True),
        ).fit()
        yield place


def called(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(holdfast, words)
    assert result.exit_code == code, result.output
    return result


def told(*words: str) -> object:
    return json.loads(called(*words, "--json").stdout)


def nonces(place: str) -> dict[str, str]:
    """What stands there: a put, be it of the same bytes, changes the nonce."""
    storage = open_storage(place)
    return {name: storage.nonce_at(name) for name in storage.sizes_below("")}


def test_what_looks_changes_nothing_and_tells_what_it_tells_of_a_directory(results: str, tmp_path: Path) -> None:
    before, path = nonces(results), inside(results, "exp")
    [one] = told("ls", results)
    assert (one["path"], one["state"]) == (path, "finished")
    shown = told("show", path)
    assert shown["trials"] == {"TERMINATED": 2, "ERROR": 2}
    first = shown["trials_table"][0]["trial_id"]
    assert len(told("show", path, first)["rows"]) == 3
    best = told("best", path)
    assert best["directory"].startswith(inside(results, "exp").partition("?")[0])
    assert "printed by 1" in called("logs", path, first).stdout
    failed = next(line["trial_id"] for line in shown["trials_table"] if line["status"] == "ERROR")
    assert "boom" in called("logs", path, failed, "--stderr").stdout + called("show", path, failed).stdout
    assert '"finished"' in called("watch", path, "--once", "--json").stdout
    assert called("export", path).stdout.count("\n") == 5
    called("export", path, "-o", str(tmp_path / "rows.csv"), "--rows")
    assert (tmp_path / "rows.csv").read_text().count("\n") == 13
    assert called("diff", path, path).exit_code == 0
    assert called("diff", f"{inside(path, shown['trials_table'][0]['trial_id'])}", inside(path, failed), code=1)
    assert "sound" in called("verify", path).stdout
    assert nonces(results) == before


def test_nothing_is_unpickled(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    import cloudpickle

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    for module in (pickle, cloudpickle):
        for name in ("load", "loads"):
            monkeypatch.setattr(module, name, refuse)
    path = inside(results, "exp")
    for words in (["ls", results], ["show", path], ["best", path], ["verify", path], ["export", path], ["watch", path, "--once"]):
        called(*words)


def test_where_there_is_none(results: str) -> None:
    assert "no experiment" in called("show", results, code=2).output
    assert called("ls", inside(results, "nothing")).output.startswith("No experiments")
    assert "secret" in called("show", f"{results}&secret_key=x", code=2).output
    nowhere = re.sub(r"127\.0\.0\.1%3A\d+", f"127.0.0.1:{object_servers.free_port()}", results)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("holdfast.cli.places._PATIENCE_S", 0.3)
        assert "no reply" in called("show", nowhere, code=1).output


def test_doctor_tries_the_store(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.search(r"writing +ok", called("doctor", results).stdout)
    assert open_storage(results).names("") == ["exp"]
    monkeypatch.setattr("holdfast.cli.doctor._PATIENCE_S", 0.3)
    assert re.search(r"writing +wrong", called("doctor", results.replace("/bucket/", "/nobodys/"), code=1).stdout)


def test_copies_restore_where_they_are_put(results: str, tmp_path: Path) -> None:
    path, elsewhere, here = inside(results, "exp"), inside(results, "elsewhere"), str(tmp_path / "here")
    assert "verified" in called("copy", path, elsewhere).stdout
    assert "there already" in called("copy", path, elsewhere, code=2).output
    assert "verified" in called("copy", path, here).stdout
    back = inside(results, "back")
    called("copy", here, back)
    for place in (elsewhere, here, back):
        grid = tune.Tuner.restore(place, train, restart_errored=True).fit()
        assert (len(grid), grid.num_errors, grid.experiment_path) == (4, 2, place)
        assert "sound" in called("verify", place).stdout
        called("rm", "-y", place)
        assert not tune.Tuner.can_restore(place)
    assert open_storage(results).names("") == ["exp"]
    assert not Path(here).exists()


def test_an_experiment_in_files_can_be_looked_at_on_a_store(results: str, tmp_path: Path) -> None:
    tune.Tuner(train, param_space=SPACE, run_config=tune.RunConfig(name="exp", storage_path=tmp_path, verbose=0)).fit()
    there = inside(results, "files")
    assert "begun on a file system" in called("copy", str(tmp_path / "exp"), there).stdout
    assert told("show", there)["trials"] == {"TERMINATED": 2, "ERROR": 2}
    with pytest.raises(tune.TuneError, match="can be looked at"):
        tune.Tuner.restore(there, train, restart_errored=True).fit()
    called("copy", there, str(tmp_path / "again"))
    assert len(tune.Tuner.restore(tmp_path / "again", train, restart_errored=True).fit()) == 4
    assert [line for line in called("rm", "-y", there, code=1).output.splitlines() if "file system" in line]
    open_storage(there).delete("journal")


def test_repair_writes_a_file_anew(results: str) -> None:
    path = inside(results, "exp")
    storage = open_storage(path)
    [folder] = [name for name in storage.names("") if name.startswith("train_") and "_00000_" in name]
    right = storage.read(f"{folder}/result.json")
    storage.put(f"{folder}/result.json", b"as a driver left it that was overtaken")
    called("repair", path)
    assert storage.read(f"{folder}/result.json") == right


def test_repair_removes_the_error_of_a_trial_that_has_none(results: str) -> None:
    """As a driver left it that was overtaken: its put of an older error was under way."""
    path = inside(results, "exp")
    storage = open_storage(path)
    trials = [name for name in storage.names("") if name.startswith("train_")]
    failed = {name: storage.read(f"{name}/error.txt") for name in trials if "error.txt" in storage.names(name)}
    assert 0 < len(failed) < len(trials)
    for name in set(trials) - set(failed):
        for file in ("error.txt", "error.pkl"):
            storage.put(f"{name}/{file}", b"stale")
        storage.put(f"{name}/mine.txt", b"of the user")
    called("repair", path)
    for name in trials:
        assert {"error.txt", "error.pkl"} & set(storage.names(name)) == ({"error.txt", "error.pkl"} if name in failed else set())
        assert ("mine.txt" in storage.names(name)) == (name not in failed)
    assert {name: storage.read(f"{name}/error.txt") for name in failed} == failed


def test_what_is_asked_for_reaches_the_driver(results: str, tmp_path: Path, start: Start) -> None:
    task = Task(storage_path=inside(results, "asked"), side=str(tmp_path / "side"), rows=10_000, every=0, pace_s=0.01, samples=2)
    driver = start(task)
    wait_until(lambda: acknowledged_count(task.side) > 4, doing=driver)
    assert "is paused" in called("pause", task.path, "0").stdout
    wait_until(lambda: told("show", task.path)["trials"].get("PAUSED") == 1, doing=driver)
    assert "at work" in called("rm", "-y", task.path, code=1).output
    called("resume", task.path, "0")
    called("stop", task.path)
    assert driver.finish() == {"trials": 2, "errors": []}
    assert open_storage(task.path).names("requests") == []
    called("rm", "-y", task.path)
