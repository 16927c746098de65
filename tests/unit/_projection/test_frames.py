from __future__ import annotations

import sys

import pytest

from holdfast._projection.frames import frame
from holdfast.errors import ConfigError
from holdfast.result import ResultGrid
from stories import Story, on_disk

LINES = [{"a": 1, "b": "x", "mixed": 1, "obj": (1, 2)}, {"a": 2.5, "late": True, "mixed": "two", "obj": {"k": 1}}]


def test_pandas_is_the_usual_one():
    assert frame(LINES)["a"].tolist() == [1.0, 2.5]


def test_polars_has_every_column_whatever_is_in_it():
    table = frame(LINES, "polars")
    assert table.columns == ["a", "b", "mixed", "obj", "late"]
    assert [str(kind) for kind in table.dtypes] == ["Float64", "String", "Object", "Object", "Boolean"]
    assert table["mixed"].to_list() == [1, "two"]
    assert table["late"].to_list() == [None, True]
    assert frame([], "polars").shape == (0, 0)


def test_the_grid_gives_either(tmp_path):
    story = Story()
    for loss in (1.0, 2.0):
        name = story.suggest({"lr": loss, "pair": (1, 2)})
        story.start(name)
        story.report(name, {"loss": loss})
    grid = ResultGrid(on_disk(story, tmp_path))
    usual, table = grid.get_dataframe(), grid.get_dataframe(library="polars")
    assert list(usual.columns) == table.columns
    assert table["loss"].to_list() == usual["loss"].tolist() == [1.0, 2.0]
    assert grid.get_dataframe("loss", "max", library="polars")["config/lr"].to_list() == [1.0, 2.0]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_library_that_is_not_there_is_named(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=rf"holdfast\[{library}\]"):
        frame([], library)


def test_another_library_is_refused():
    with pytest.raises(ConfigError, match="'arrow'"):
        frame([], "arrow")
