"""The callbacks' desk: who is told what, in which order, and what is told again."""

from __future__ import annotations

from holdfast import values
from holdfast._core.events import Record
from holdfast._runtime.advice import Judgement
from holdfast._runtime.callbacks import CallbackDesk
from holdfast._runtime.roll import Roll
from holdfast.callback import Callback
from stories import Story

CALLS = [name for name in vars(Callback) if name.startswith("on_")]


class Notes(Callback):
    """Writes down each call: its name, its trial, whether it is repeated."""

    def __init__(self, log: list | None = None, name: str = "") -> None:
        self.log = [] if log is None else log
        self.name = name

    def setup(self, stop=None, num_samples=None, total_num_samples=None, **info):
        self.log.append(("setup", stop, num_samples))

    def note(self, what: str, trial=None, *, repeated: bool = False) -> None:
        mark = "repeated " if repeated else ""
        self.log.append(f"{self.name}{mark}{what}" + (f" {trial.trial_id[-1]}" if trial else ""))


def _noting(name: str):
    def call(self, *args, trial=None, repeated: bool = False, **info):
        found = trial or next((arg for arg in args if type(arg).__name__ == "Trial"), None)
        self.note(name, found, repeated=repeated)

    return call


for _name in CALLS:
    setattr(Notes, _name, _noting(_name))


class Memory(Notes):
    """Remembers how many rows it has seen."""

    def __init__(self, log: list | None = None) -> None:
        super().__init__(log)
        self.rows = 0

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.rows += 1
        self.note("on_trial_result", trial, repeated=info.get("repeated", False))

    def get_state(self):
        return {"rows": self.rows}

    def set_state(self, state):
        self.rows = state["rows"]


def desk_of(story: Story, *callbacks: Callback) -> CallbackDesk:
    roll = Roll(story.state.created, story.state, "/exp", story.load)
    return CallbackDesk(callbacks, story.state, roll, story.store)


def amend(desk: CallbackDesk, story: Story, name: str, **options) -> dict:
    row = story.state.trial(name).current
    changes = desk.amend(Judgement(name, row.number, 0, "CONTINUE", "scheduler", False), row, **options).changes
    return values.decode(changes) if changes else {}


def a_trial(story: Story, *, save: bool = False) -> list[Record]:
    begin = len(story.records)
    name = story.suggest()
    story.start(name)
    story.report(name, save=save)
    story.complete(name)
    return story.records[begin:]


def test_all_are_told_in_the_given_order() -> None:
    story, log = Story(), []
    desk = desk_of(story, Notes(log, "a:"), Notes(log, "b:"))
    name = story.suggest()
    story.start(name)
    desk.hear(story.records[-1])
    story.row(name)
    amend(desk, story, name)
    assert log == ["a:on_trial_start 0", "b:on_trial_start 0", "a:on_trial_result 0", "b:on_trial_result 0"]


def test_what_each_record_means() -> None:
    story, log = Story(max_failures=1), []
    desk = desk_of(story, Notes(log))
    name = story.suggest()

    def told(event_maker) -> list[str]:
        log.clear()
        event_maker()
        for record in story.records[-1:]:
            desk.hear(record)
        return list(log)

    assert told(lambda: story.start(name)) == ["on_trial_start 0"]
    story.row(name, save=True)
    assert told(lambda: story.decide(name)) == ["on_trial_save 0", "on_checkpoint 0"]
    story.row(name)
    assert told(lambda: story.decide(name)) == []
    assert told(lambda: story.fail(name)) == ["on_trial_recover 0"]
    assert told(lambda: story.start(name)) == ["on_trial_restore 0", "on_trial_start 0"]
    assert told(lambda: story.fail(name)) == ["on_trial_error 0"]
    other = story.suggest()
    story.start(other)
    assert told(lambda: story.complete(other)) == ["on_trial_complete 1"]
    log.clear()
    desk.step(begin=True)
    desk.step(begin=False)
    desk.end()
    assert log == ["on_step_begin", "on_step_end", "on_experiment_end"]


def test_in_place_changes_reach_later_callbacks_and_are_returned_alone() -> None:
    seen = []

    class First(Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            result["added"] = {"deep": (1, 2)}
            result["loss"] = -result["loss"]

    class Second(Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            seen.append((result["added"], result["config"], trial.last_result.get("added")))

    story = Story()
    name = story.suggest({"lr": 0.5})
    story.start(name)
    story.row(name, {"loss": 2.0, "kept": 1})
    assert amend(desk_of(story, First(), Second()), story, name) == {"added": {"deep": (1, 2)}, "loss": -2.0}
    assert seen == [({"deep": (1, 2)}, {"lr": 0.5}, None)]


def test_without_changes_nothing_goes_on_record() -> None:
    story = Story()
    name = story.suggest()
    story.start(name)
    story.row(name, {"loss": float("nan"), "text": "x"})
    assert amend(desk_of(story, Notes()), story, name) == {}
    assert amend(desk_of(story), story, name) == {}


def test_one_object_stands_for_a_trial_in_all_calls() -> None:
    seen = []

    class Keep(Callback):
        def on_trial_start(self, iteration, trials, trial, **info):
            seen.append((trial, list(trials)))

    story = Story()
    first, second = story.suggest(), story.suggest()
    desk = desk_of(story, Keep())
    for name in (first, second):
        story.start(name)
        desk.hear(story.records[-1])
    assert seen[0][1][0] is seen[1][1][0] is seen[0][0]
    assert [trial.trial_id for trial in seen[0][1]] == [first, second]


class TestAfterACrash:
    def test_what_was_written_last_is_told_again_and_marked(self) -> None:
        story, log = Story(), []
        records = a_trial(story, save=True)
        desk = desk_of(story, Notes(log))
        desk.remind({}, -1)
        for record in records:
            desk.replay(record)
        assert log == []
        desk.catch_up()
        assert log == ["repeated on_trial_complete 0"]
        desk.catch_up()
        assert len(log) == 1

    def test_after_a_good_end_nothing_is_told_again(self) -> None:
        story, log = Story(), []
        a_trial(story)
        story.finish()
        desk = desk_of(story, Notes(log))
        for record in story.records:
            desk.replay(record)
        desk.catch_up()
        assert log == []

    def test_an_end_by_error_does_not_hide_what_not_all_were_told(self) -> None:
        story, log = Story(), []
        a_trial(story)
        story.finish("error")
        desk = desk_of(story, Notes(log))
        for record in story.records:
            desk.replay(record)
        desk.catch_up()
        assert log == ["repeated on_trial_complete 0"]

    def test_a_memory_comes_back_and_what_came_after_it_is_told_again(self) -> None:
        story = Story()
        first = a_trial(story)
        memory = Memory()
        desk = desk_of(story, memory)
        desk.remind({"0 Memory": {"rows": 1}}, first[-1].position)
        second = a_trial(story)
        for record in second:
            desk.replay(record)
        desk.catch_up()
        assert memory.rows == 2
        assert memory.log == ["repeated on_trial_start 1", "repeated on_trial_result 1", "repeated on_trial_complete 1"]

    def test_no_callback_gets_the_memory_of_another_class(self) -> None:
        story = Story()
        first = a_trial(story)
        memory = Memory()
        desk = desk_of(story, memory)
        desk.remind({"0 Other": {"rows": 7}, "1 Memory": {"rows": 8}}, first[-1].position)
        assert (memory.rows, list(desk.memories())) == (0, ["0 Memory"])

    def test_a_memory_that_was_never_kept_is_built_from_the_beginning(self) -> None:
        story = Story()
        records = a_trial(story) + a_trial(story)
        memory = Memory()
        desk = desk_of(story, memory)
        desk.remind({}, -1)
        for record in records:
            desk.replay(record)
        assert memory.rows == 2
