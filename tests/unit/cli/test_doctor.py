from __future__ import annotations

import json

from click.testing import CliRunner

from holdfast.cli import doctor as room
from holdfast.cli.verbs import holdfast
from holdfast.storage.local import LocalStorage


def run(*arguments, code=0) -> str:
    result = CliRunner().invoke(holdfast, ["doctor", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def verdicts(*arguments, code=0) -> dict[str, str]:
    return {one["topic"]: one["verdict"] for one in json.loads(run(*arguments, "--json", code=code))["findings"]}


def test_a_sound_machine_is_told_and_nothing_stays_behind(tmp_path):
    text = run(tmp_path)
    assert text.splitlines()[-1] == "Nothing is wrong."
    for part in ("msgspec", "CPUs", "memory", "file system", "what one creates no other can"):
        assert part in text
    assert list(tmp_path.iterdir()) == []
    run(tmp_path / "not" / "there")
    assert list(tmp_path.iterdir()) == []


def test_extras_are_listed_with_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_version", lambda name: None if name == "pandas" else "1.0")
    extras = {one["extra"]: one for one in json.loads(run(tmp_path, "--json"))["extras"]}
    assert extras["pandas"] == {"extra": "pandas", "installed": False, "needs": "", "missing": "pandas"}
    assert extras["optuna"]["installed"] is True


def test_a_missing_package_and_a_bad_setting_are_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_version", lambda name: None if name == "msgspec" else "1.0")
    monkeypatch.setenv("HOLDFAST_CPUS", "many")
    found = verdicts(tmp_path, code=1)
    assert (found["msgspec"], found["environment"], found["click"]) == ("wrong", "wrong", "ok")


def test_of_a_file_system_that_is_not_trusted_it_is_said_how_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "file_system_of", lambda _: "nfs4")
    assert verdicts(tmp_path)["file system"] == "note"
    assert "nothing is appended there" in run(tmp_path)


def test_a_disk_that_refuses_is_wrong(tmp_path):
    (tmp_path / "file").write_text("no directory")
    found = verdicts("/proc/self", code=1)
    assert found["writing"] == "wrong"


def test_a_file_system_that_gives_two_the_same_file_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(LocalStorage, "put_if_absent", lambda self, path, data: self.put(path, data) or True)
    assert verdicts(tmp_path, code=1)["writing"] == "wrong"
    assert list(tmp_path.iterdir()) == []
