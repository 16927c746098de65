from __future__ import annotations

import pickle

import cloudpickle
import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

import holdfast as tune
from holdfast.errors import ConfigError
from holdfast.search.optuna import OptunaSearch

SPACE = {"x": tune.uniform(0, 1), "c": tune.choice([{"a": 1}, {"b": 2}])}
URL = "a URL"
KINDS = [URL, "an RDB", "a journal file"]


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    if request.param == URL:
        return url
    if request.param == "an RDB":
        return optuna.storages.RDBStorage(url)
    return optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "study.log")))


def ready(searcher: OptunaSearch) -> OptunaSearch:
    assert searcher.set_search_properties("loss", "min", SPACE, seed=3)
    return searcher


def run(searcher: OptunaSearch, first: int, last: int) -> list[dict]:
    asked = []
    for k in range(first, last):
        trial_id = f"ab12c_{k:05d}"
        asked.append(searcher.suggest(trial_id))
        searcher.on_trial_result(trial_id, {"training_iteration": 1, "loss": asked[-1]["x"] + 1})
        searcher.on_trial_complete(trial_id, {"loss": asked[-1]["x"]} if k % 3 else None, error=not k % 3)
    return asked


def trials(storage, name="optuna") -> list[tuple]:
    """All trials of the study, read from the storage by somebody else."""
    study = optuna.load_study(study_name=name, storage=pickle.loads(pickle.dumps(storage)))
    return [
        (it.number, it.state.name, it.params, it.value, it.intermediate_values, it.user_attrs.get("holdfast_trial"))
        for it in study.trials
    ]


@pytest.mark.slow
def test_it_gets_each_trial_once_however_often_they_are_told_of_again(storage) -> None:
    first = OptunaSearch(storage=storage)
    born = cloudpickle.dumps(first)
    asked = run(ready(first), 0, 7)
    there = trials(storage)
    assert [row[-1] for row in there] == [f"ab12c_{k:05d}" for k in range(7)]
    assert [row[1:5] for row in there] == [
        (it.state.name, it.params, it.value, it.intermediate_values) for it in first.study.trials
    ]
    for beyond in (3, 7, 9):  # replays that end before, with and behind what is there
        replayed = pickle.loads(born)
        assert run(ready(replayed), 0, beyond)[:7] == asked[:beyond]
        assert trials(storage)[:7] == there
    assert len(trials(storage)) == 9
    middle = cloudpickle.dumps(replayed)
    assert run(pickle.loads(middle), 9, 10) == run(pickle.loads(middle), 9, 10)
    assert len(trials(storage)) == 10


@pytest.mark.slow
def test_what_others_finished_there_is_learned_from_and_no_more_than_at_the_beginning(storage) -> None:
    theirs = optuna.create_study(storage=pickle.loads(pickle.dumps(storage)), study_name="shared", direction="minimize")
    theirs.enqueue_trial({"x": 0.25})
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    searcher = OptunaSearch(storage=storage, study_name="shared")
    born = cloudpickle.dumps(searcher)
    asked = run(ready(searcher), 0, 4)
    assert [trial.value for trial in searcher.study.trials[:3]] == [trial.value for trial in theirs.trials[:3]]
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    replayed = pickle.loads(born)
    assert run(ready(replayed), 0, 4) == asked
    assert len(replayed.study.trials) == 7
    assert len(trials(storage, "shared")) == 3 + 4 + 2


def test_an_answer_that_did_not_stand_is_closed_and_the_one_that_stands_is_there(storage) -> None:
    searcher = OptunaSearch(storage=storage)
    born = cloudpickle.dumps(searcher)
    ready(searcher).suggest("ab12c_00000")
    replayed = ready(pickle.loads(born))
    other = {**replayed.suggest("ab12c_00000"), "x": 0.125}
    replayed.adopt("ab12c_00000", other)
    assert len(trials(storage)) == 1  # nothing is written before it is known which one stands
    replayed.on_trial_complete("ab12c_00000", {"loss": 3.0})
    stale, stands = trials(storage)
    assert stale[1] == "FAIL"
    assert (stands[1], stands[2]["x"], stands[3]) == ("COMPLETE", 0.125, 3.0)


def test_evaluated_points_get_there_once(storage) -> None:
    searcher = OptunaSearch(storage=storage, points_to_evaluate=[{"x": 0.5}], evaluated_rewards=[0.25])
    born = cloudpickle.dumps(searcher)
    for one in (searcher, pickle.loads(born)):
        ready(one).suggest("ab12c_00000")
        assert [row[1:4] for row in trials(storage)][:1] == [("COMPLETE", {"x": 0.5}, 0.25)]
        assert len(trials(storage)) == 2


def test_a_study_with_other_directions_is_refused(storage) -> None:
    optuna.create_study(storage=pickle.loads(pickle.dumps(storage)), study_name="up", direction="maximize")
    with pytest.raises(ConfigError, match="'up' is in that storage already, with other directions"):
        ready(OptunaSearch(storage=storage, study_name="up")).suggest("ab12c_00000")


def test_nothing_is_written_before_the_first_question(tmp_path) -> None:
    ready(OptunaSearch(storage=f"sqlite:///{tmp_path}/study.db"))
    assert list(tmp_path.iterdir()) == []
