from __future__ import annotations

import math

from holdfast.logger import pretty_print


def test_rows_are_printed_sorted_and_indented_without_config_and_none():
    row = {
        "loss": 0.5,
        "acc": {"top": 1, "five": [1, 2]},
        "config": {"lr": 1},
        "nothing": None,
        "word": "yes",
        "text": "a: b",
        "nan": math.nan,
    }
    assert pretty_print(row) == 'acc:\n  five:\n  - 1\n  - 2\n  top: 1\nloss: 0.5\nnan: .nan\ntext: "a: b"\nword: "yes"\n'
    assert pretty_print(row, exclude={"acc", "text", "word", "nan"}) == "loss: 0.5\n"
    assert pretty_print({}) == "{}\n"
