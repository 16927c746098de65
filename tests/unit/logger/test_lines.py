from __future__ import annotations

import csv
import io
import json
import math

from hypothesis import given
from hypothesis import strategies as st

from holdfast.logger.lines import csv_text, flat_cells, json_line, json_object, parse_csv

ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"))
NESTED = st.recursive(
    ATOMS, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=4), inside, max_size=3)
)
ROWS = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), NESTED, max_size=6)


def same(one, other) -> bool:
    """Equal, where NaN equals NaN."""
    return repr(one) == repr(other)


@given(ROWS)
def test_rows_come_back_from_json(row):
    line = json_line({key: value for key, value in row.items() if key != "config"}, b'{"lr":NaN}')
    assert line.count(b"\n") == 1
    back = json.loads(line)
    back.pop("config", None)
    row.pop("config", None)
    assert same(back, row)


@given(st.dictionaries(st.text(max_size=5), st.floats() | st.none() | st.sampled_from([":null", "null", '":null"']), max_size=5))
def test_nan_and_infinity_never_become_null(row):
    assert same(json.loads(json_object(row)), row)


def test_what_json_has_no_word_for_is_text():
    assert json.loads(json_object({"big": 2**100, "text": "\ud800", "path": complex(1, 2)})) == {
        "big": 2**100, "text": "\ud800", "path": "(1+2j)",
    }  # fmt: skip


@given(st.lists(st.lists(ATOMS, min_size=1, max_size=4), max_size=4))
def test_lines_are_what_the_csv_module_writes(lines):
    expected = io.StringIO(newline="")
    csv.writer(expected).writerows(["" if cell is None else cell for cell in line] for line in lines)
    assert (
        csv_text([["" if cell is None else cell for cell in line] for line in lines])
        == expected.getvalue().replace("\0", "\\0").encode()
    )


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=4))
def test_tables_come_back(cells):
    header = [f"column {at}" for at in range(len(cells))]
    assert parse_csv(csv_text([header, cells]) + b'torn,"') == (header, [cells])


def test_cells_are_flat_and_leave_the_config_out():
    row = {"a": {"b": {"c": 1}, "d": (1, 2)}, "nothing": None, "config": {"lr": 1}, "nan": math.nan}
    assert repr(flat_cells(row)) == "{'a/b/c': 1, 'a/d': [1, 2], 'nan': nan}"
    assert flat_cells({"checkpoint_dir_name": None, "x": 1}) == {"x": 1, "checkpoint_dir_name": ""}
