from __future__ import annotations

from holdfast._projection.disk import checkpoints, disk_use, excess, pending
from stories import Story


def running(**policy):
    story = Story(**policy)
    name = story.suggest()
    story.start(name)
    return story, name


def test_what_is_kept_and_pending_is_counted():
    story, name = running()
    story.report(name, save=True)
    story.row(name, pending=True)
    use = disk_use(story.state)
    assert (use["kept"], use["bytes"], use["pending"], use["pending_bytes"]) == (1, 100, 1, 100)
    assert (use["max_total_bytes"], use["exceeded_by"], use["exceeded_because"]) == (0, 0, "")
    (line,) = pending(story.state.trial(name))
    assert (line["name"], line["row"], line["bytes"]) == (".pending-000001", 2, 100)
    assert [kept["name"] for kept in checkpoints(story.state.trial(name), story.state.policy)] == ["checkpoint_000000"]


def test_a_count_that_is_exceeded_is_explained():
    story, name = running(num_to_keep=1, score_attribute="loss")
    story.report(name, save=True)
    story.report(name, save=True)
    trial = story.state.trial(name)
    assert [kept["why"] for kept in checkpoints(trial, story.state.policy)] == [
        "among the best 1 by max loss",
        "the trial resumes from it, beside the best 1",
    ]
    story.complete(name)
    assert checkpoints(trial, story.state.policy)[-1]["why"] == "the newest, beside the best 1"


def test_a_budget_that_is_exceeded_is_explained():
    story, name = running(max_total_bytes=150, metric="loss", mode="min")
    story.report(name, save=True)
    assert excess(story.state) == ""
    story.report(name, save=True)
    assert "the driver ended before it could give up" in excess(story.state)
    story.drop(name, 0)
    assert excess(story.state) == ""
    story, name = running(max_total_bytes=50, metric="loss", mode="min")
    story.report(name, save=True)
    assert excess(story.state) == "unfinished trials (1) resume from their newest, and the best of all stays"
    assert disk_use(story.state)["exceeded_by"] == 50
    story.complete(name)
    assert excess(story.state) == "the best one alone takes more"
