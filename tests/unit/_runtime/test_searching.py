"""The searcher's desk: what the searcher hears, in which order, in which thread, and what becomes of its answers."""

from __future__ import annotations

import random
import threading

import pytest

from holdfast import values
from holdfast._core.commands import AskSearcher
from holdfast._core.events import NothingSuggested, TrialSuggested
from holdfast._runtime.searching import Names, SearcherDesk
from holdfast.errors import ConfigError
from holdfast.search import Searcher


class Shelf:
    """Keeps pickles in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, object] = {}

    def store(self, pickled: bytes) -> str:
        import pickle

        sha = f"{len(self.objects):064d}"
        self.objects[sha] = pickle.loads(pickled)
        return sha

    def load(self, sha: str) -> object:
        return self.objects[sha]


class Notes(Searcher):
    """Writes down what it hears and in which thread; suggests how much that is."""

    def __init__(self, answer=None) -> None:
        super().__init__()
        self.heard: list[tuple] = []
        self.threads: set[str] = set()
        self.answer = answer

    def note(self, *what) -> None:
        self.heard.append(what)
        self.threads.add(threading.current_thread().name)

    def suggest(self, trial_id):
        self.note("suggest", trial_id)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if self.answer is not None else {"heard": len(self.heard), "chance": random.random()}

    def on_trial_result(self, trial_id, result):
        self.note("result", trial_id, result)

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.note("complete", trial_id, result, error)

    def adopt(self, trial_id, config):
        self.note("adopt", trial_id, config)


class Instant(Notes):
    instant = True


def desk_of(searcher: Searcher, constants=None) -> SearcherDesk:
    def name(index, trial_id, config, evaluated) -> Names:
        return Names(f"{index}", f"dir{index}", trial_id)

    return SearcherDesk(searcher, 7, "abcde", constants or {}, name, Shelf())


@pytest.fixture
def desks():
    """Desks that are closed at the end."""
    opened: list[SearcherDesk] = []
    yield opened
    for desk in opened:
        desk.close()


def answers_of(desk: SearcherDesk, count: int, woken: threading.Semaphore) -> list:
    found = []
    while len(found) < count:
        assert woken.acquire(timeout=10)
        found += desk.answers()
    return found


def ask(index: int) -> AskSearcher:
    return AskSearcher(f"1.{index}.0", index)


def test_an_instant_searcher_answers_where_it_is_asked(desks) -> None:
    desk = desk_of(Instant(), {"fixed": 1, "deep": {"a": 1}})
    desks.append(desk)
    desk.go_live(lambda: None)
    desk.ask(ask(0), heard=5)
    [answer] = desk.answers()
    assert isinstance(answer, TrialSuggested)
    assert (answer.order, answer.heard, answer.trial_id, answer.dirname) == ("1.0.0", 5, "abcde_00000", "dir0")
    config = values.decode(answer.config)
    assert (config["fixed"], config["heard"]) == (1, 1)
    assert desk.searcher.threads == {threading.current_thread().name}
    assert desk.answers() == []


class Counting(Instant):
    """Answers by number alone."""

    by_number = True
    own_chance = True

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def skip(self) -> None:
        self.number += 1

    def suggest(self, trial_id):
        self.note("suggest", trial_id)
        self.number += 1
        return Searcher.FINISHED if self.number > 3 else {"number": self.number}


class CountingByGlobalChance(Counting):
    """Says that it draws from the global generators."""

    own_chance = False


@pytest.mark.parametrize("trusting", [True, False])
def test_what_can_only_repeat_is_passed_over_on_replay(desks, trusting: bool) -> None:
    live = desk_of(Counting())
    desks.append(live)
    live.go_live(lambda: None)
    for index in range(4):
        live.ask(ask(index), heard=index)
    recorded = live.answers()
    again = desk_of(Counting())
    again.trusting = trusting
    for index in range(4):
        again.ask(ask(index), heard=index, replaying=True)
        if index < 3:
            assert again.settle(recorded[index]) == ""
    assert len(again.searcher.heard) == (0 if trusting else 4)
    assert again.foreseen() == recorded[3:]  # the question that nobody had answered is thought about


def test_a_searcher_that_draws_from_global_generators_is_not_passed_over(desks) -> None:
    desk = desk_of(CountingByGlobalChance())
    desk.trusting = True
    desk.ask(ask(0), heard=0, replaying=True)
    assert len(desk.searcher.heard) == 1


def test_passing_over_ends_where_the_record_says_that_nothing_came(desks) -> None:
    desk = desk_of(Counting())
    desk.trusting = True
    desk.ask(ask(0), heard=0, replaying=True)
    assert "now gives something else" in desk.settle(NothingSuggested("1.0.0", 0, finished=True))


def test_one_that_thinks_hears_and_answers_in_order_in_its_own_thread(desks) -> None:
    desk, woken = desk_of(Notes()), threading.Semaphore(0)
    desks.append(desk)
    desk.go_live(woken.release)
    desk.tell("on_trial_result", "a", {"x": 1})
    desk.ask(ask(0), heard=1)
    desk.tell("on_trial_complete", "a", result={"x": 2})
    desk.ask(ask(1), heard=2)
    first, second = answers_of(desk, 2, woken)
    assert [values.decode(answer.config)["heard"] for answer in (first, second)] == [2, 4]
    assert [what[0] for what in desk.searcher.heard] == ["result", "suggest", "complete", "suggest"]
    assert desk.searcher.threads == {"holdfast-searcher"}
    assert desk.resting


def test_it_does_not_rest_while_a_thought_is_under_way(desks) -> None:
    thinking, go = threading.Event(), threading.Event()

    class Slow(Notes):
        def suggest(self, trial_id):
            thinking.set()
            go.wait(10)
            return super().suggest(trial_id)

    desk, woken = desk_of(Slow()), threading.Semaphore(0)
    desks.append(desk)
    desk.go_live(woken.release)
    assert desk.resting
    desk.ask(ask(0), heard=0)
    assert not desk.resting
    assert thinking.wait(10)
    assert not desk.resting
    go.set()
    answers_of(desk, 1, woken)
    assert desk.resting


def test_an_answer_that_is_not_on_record_yet_is_no_moment_for_a_snapshot(desks) -> None:
    desk = desk_of(Notes())
    desks.append(desk)
    desk.go_live(lambda: None)
    desk.ask(ask(0), heard=0)
    desk.close()
    assert not desk.resting
    desk.answers()
    assert desk.resting


def test_what_it_draws_is_a_function_of_the_call_and_not_of_the_thread(desks) -> None:
    lots = []
    for make in (Notes, Instant):
        desk, woken = desk_of(make()), threading.Semaphore(0)
        desks.append(desk)
        desk.go_live(woken.release)
        desk.ask(ask(0), heard=0)
        woken.release()
        [answer] = answers_of(desk, 1, woken)
        lots.append(values.decode(answer.config)["chance"])
    assert lots[0] == lots[1]


@pytest.mark.parametrize(("answer", "finished"), [("FINISHED", True), (None, False)])
def test_nothing_is_an_answer_too(answer, finished: bool) -> None:
    class Empty(Instant):
        def suggest(self, trial_id):
            return answer

    desk = desk_of(Empty())
    desk.ask(ask(0), heard=3)
    assert desk.answers() == [NothingSuggested("1.0.0", 3, finished)]


def test_its_own_error_comes_out_of_answers_as_itself(desks) -> None:
    desk, woken = desk_of(Notes(ZeroDivisionError("thought too hard"))), threading.Semaphore(0)
    desks.append(desk)
    desk.go_live(woken.release)
    desk.ask(ask(0), heard=0)
    with pytest.raises(ZeroDivisionError, match="thought too hard"):
        answers_of(desk, 1, woken)


def test_an_answer_that_is_no_configuration_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"Instant.suggest answered \[1\]"):
        desk_of(Instant([1])).ask(ask(0), heard=0)


class TestReplay:
    def recorded(self, config: dict) -> TrialSuggested:
        encoded = values.encode(config, Shelf().store)
        return TrialSuggested("1.0.0", 0, "abcde_00000", encoded, b"\x80", "0", "dir0", "n")

    def test_an_answer_that_repeats_is_no_news(self) -> None:
        desk = desk_of(Notes({"x": 1}))
        desk.ask(ask(0), heard=0, replaying=True)
        assert desk.settle(self.recorded({"x": 1})) == ""
        assert desk.answers() == []

    def test_the_recorded_answer_stands_and_is_handed_over(self) -> None:
        desk = desk_of(Notes({"x": 2}))
        desk.ask(ask(0), heard=0, replaying=True)
        assert "did not repeat" in desk.settle(self.recorded({"x": 1}))
        assert desk.searcher.heard[-1] == ("adopt", "abcde_00000", {"x": 1})

    def test_objects_in_it_are_handed_over_as_objects(self) -> None:
        shelf = Shelf()
        desk = SearcherDesk(Notes({"x": 2}), 7, "abcde", {}, lambda index, *_: Names("", "", ""), shelf)
        desk.ask(ask(0), heard=0, replaying=True)
        encoded = values.encode({"x": random.Random}, shelf.store)
        desk.settle(TrialSuggested("1.0.0", 0, "abcde_00000", encoded, b"\x80", "0", "dir0", "n"))
        assert desk.searcher.heard[-1] == ("adopt", "abcde_00000", {"x": random.Random})

    def test_a_configuration_where_nothing_was_recorded(self) -> None:
        desk = desk_of(Notes({"x": 2}))
        desk.ask(ask(0), heard=0, replaying=True)
        assert "nothing to suggest" in desk.settle(NothingSuggested("1.0.0", 0, finished=False))

    def test_a_question_that_was_never_answered_has_its_answer_already(self) -> None:
        desk = desk_of(Notes({"x": 1}))
        desk.ask(ask(0), heard=4, replaying=True)
        [answer] = desk.foreseen()
        assert (answer.order, answer.heard) == ("1.0.0", 4)
        assert desk.foreseen() == []
