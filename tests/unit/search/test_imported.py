"""What was tried elsewhere: read as it is kept there, and learned from."""

from __future__ import annotations

import json
import sqlite3

import optuna
import pytest
from click.testing import CliRunner
from optuna.storages.journal import JournalFileBackend

import holdfast as tune
from holdfast.cli.verbs import holdfast
from holdfast.errors import ConfigError
from holdfast.search.imported import Past
from holdfast.search.optuna import OptunaSearch

SPACE = {"lr": tune.uniform(0, 1), "net": {"width": tune.randint(1, 9)}, "seed": 3}


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def study_at(storage) -> None:
    study = optuna.create_study(storage=storage, study_name="s", direction="maximize")

    def objective(trial):
        lr, width = trial.suggest_float("lr", 0, 1), trial.suggest_int("net/width", 1, 8)
        if trial.number == 2:
            raise optuna.TrialPruned
        return lr + width

    study.optimize(objective, n_trials=5)


def ray_results(path) -> None:
    """As Ray Tune leaves them: a directory per trial, one without rows, one torn, one that reports no number."""
    rows = {"a": [0.5, 0.25], "b": [0.75], "none": [], "text": ["x"], "torn": [0.125]}
    for number, (name, losses) in enumerate(rows.items()):
        trial = path / f"train_{name}"
        trial.mkdir(parents=True)
        (trial / "params.json").write_text(json.dumps({"lr": number / 10, "net": {"width": number + 1}, "seed": 3}))
        lines = [json.dumps({"eval": {"loss": loss}, "training_iteration": n + 1}) + "\n" for n, loss in enumerate(losses)]
        (trial / "result.json").write_text("".join(lines) + '{"eval": {"lo' * (name == "torn"))
    (path / "tuner.pkl").write_bytes(b"not to be loaded")


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_study_of_optunas_is_taken_over_and_learned_from(tmp_path, kind):
    place = f"sqlite:///{tmp_path}/s.db" if kind == "sqlite" else str(tmp_path / "s.log")
    study_at(place if kind == "sqlite" else optuna.storages.JournalStorage(JournalFileBackend(place)))
    done = CliRunner().invoke(holdfast, ["import", place, str(tmp_path / "past.json")])
    assert (done.exit_code, done.output) == (0, f"{tmp_path}/past.json: 4 trials\n")
    past = Past.read(str(tmp_path / "past.json"))
    assert past.mode == "max"
    assert past.values == [point["lr"] + point["net/width"] for point in past.points]
    assert past.best(1) == [past.points[past.values.index(max(past.values))]]
    searcher = OptunaSearch(points_to_evaluate=past.points, evaluated_rewards=past.values, metric="m", mode="max", seed=1)
    alone = OptunaSearch(metric="m", mode="max", seed=1)
    space = {key: value for key, value in SPACE.items() if key != "seed"}
    for one in (searcher, alone):
        one.set_search_properties("m", "max", space)
        assert one.suggest("1") is not None
    assert (len(searcher._study.trials), len(alone._study.trials)) == (5, 1)


def test_a_directory_of_ray_tunes_is_taken_over(tmp_path):
    ray_results(tmp_path / "ray")
    output = str(tmp_path / "past.json")
    words = ["import", str(tmp_path / "ray"), output, "--metric", "eval/loss"]
    done = CliRunner().invoke(holdfast, words)
    assert (done.exit_code, done.output) == (0, f"{output}: 3 trials\n")
    past = Past.read(output)
    assert dict(zip([point["net/width"] for point in past.points], past.values, strict=True)) == {1: 0.25, 2: 0.75, 5: 0.125}
    assert past.within(SPACE).best(2) == [{"lr": 0.4, "net/width": 5}, {"lr": 0.0, "net/width": 1}]
    assert past.within({"lr": tune.uniform(0.05, 0.2)}).points == [{"lr": 0.1}]
    again = CliRunner().invoke(holdfast, words)
    assert again.exit_code == 2
    assert "is there already" in again.output


def test_our_own_results_are_read_too_and_warm_start_an_experiment(tmp_path):
    def train(config):
        tune.report({"loss": (config["lr"] - 0.3) ** 2})

    def run(name, **how):
        run_config = tune.RunConfig(name=name, storage_path=str(tmp_path), verbose=0, engine="inline")
        tune_config = tune.TuneConfig(metric="loss", mode="min", num_samples=3, **how)
        return tune.Tuner(train, param_space={"lr": tune.uniform(0, 1)}, tune_config=tune_config, run_config=run_config).fit()

    first = run("first", seed=1)
    past = Past.of_results(str(tmp_path / "first"), "loss").within({"lr": tune.uniform(0, 1)})
    assert sorted(past.values) == sorted(result.metrics["loss"] for result in first)
    second = run("second", search_alg=OptunaSearch(points_to_evaluate=past.best(1), seed=1))
    assert second[0].config == first.get_best_result().config


def test_what_cannot_be_read_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="no file"):
        Past.of_optuna(str(tmp_path / "nothing"))
    study_at(f"sqlite:///{tmp_path}/s.db")
    with pytest.raises(ConfigError, match="no such study"):
        Past.of_optuna(f"sqlite:///{tmp_path}/s.db", "other")
    optuna.create_study(storage=f"sqlite:///{tmp_path}/two.db", study_name="two", directions=["minimize", "maximize"])
    with pytest.raises(ConfigError, match="2 objectives"):
        Past.of_optuna(f"sqlite:///{tmp_path}/two.db")
    with pytest.raises(ConfigError, match="No trial"):
        Past.of_results(str(tmp_path), "loss")
    (tmp_path / "odd.json").write_text("[]")
    with pytest.raises(ConfigError, match="was not written"):
        Past.read(str(tmp_path / "odd.json"))
    refused = CliRunner().invoke(holdfast, ["import", str(tmp_path), str(tmp_path / "x")])
    assert "needs --metric" in refused.output


def test_a_source_that_is_none_is_said_in_a_sentence_and_left_as_it_is(tmp_path):
    study_at(f"sqlite:///{tmp_path}/s.db")
    (tmp_path / "script.py").write_text("import holdfast\n")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE birds (name TEXT)")
    other.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for words, told in (
        ([str(tmp_path / "nowhere"), "x"], "There is no file"),
        ([f"sqlite:///{tmp_path}/nowhere.db", "x"], "There is no file"),
        ([f"sqlite:///{tmp_path}/other.db", "x"], "no such study"),
        ([str(tmp_path / "script.py"), "x"], "no such study"),
        ([f"sqlite:///{tmp_path}/s.db", "x", "--study", "other"], "no such study"),
        ([f"sqlite:///{tmp_path}/s.db", "nowhere/x"], "cannot be written"),
        ([str(tmp_path), "x", "--metric", "loss"], "No trial directly below"),
    ):
        done = CliRunner().invoke(holdfast, ["import", words[0], str(tmp_path / words[1]), *words[2:]])
        assert (done.exit_code, done.exception.__class__) in ((1, SystemExit), (2, SystemExit)), (words, done.exception)
        assert told in " ".join(done.output.split())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
