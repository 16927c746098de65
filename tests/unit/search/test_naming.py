from __future__ import annotations

import numpy as np
import pytest

from holdfast.search.naming import format_tag, safe_dirname


class Unprintable:
    def __str__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("evaluated", "tag"),
    [
        ({}, "3"),
        ({"lr": 0.01, "net/layers": 2}, "3_lr=0.0100,layers=2"),
        ({"b": 1, "a/z": "x y/z"}, "3_z=x_y_z,b=1"),
        ({"p": "../../etc"}, "3_p=etc"),
        ({"f": np.float64(0.123456)}, "3_f=0.1235"),
        ({"n": None, "t": (1, 2), "u": Unprintable()}, "3_n=None,t=1_2,u=Unprintable"),
        ({"a": {"x": 1}, "a/x": 1}, "3_a=x_1,x=1"),
    ],
)
def test_tags(evaluated, tag):
    assert format_tag(3, evaluated) == tag


def test_tags_are_bounded():
    assert len(format_tag(0, {"a": "x" * 10**6})) < 200


def test_directory_names():
    assert (
        safe_dirname("train_abc_00001", "1_lr=0.1", "2024-01-02_03-04-05", 130) == "train_abc_00001_1_lr=0.1_2024-01-02_03-04-05"
    )
    assert safe_dirname("f", "x" * 500, "D", 10) == "f_xxxxxxxx_D"
    assert safe_dirname("a/b(c)\x00\ud800", "1", "", 130) == "a_b_c____1"
    assert safe_dirname("..", "1", "", 130) == "_._1"
    assert len(safe_dirname("日" * 200, "1", "2024", 200).encode()) <= 255
