from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from holdfast.values import decode, encode, flatten, unflatten

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.complex_numbers(allow_nan=False)
)
keys = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.tuples(st.integers(), st.text())
values = st.recursive(
    leaves | st.sets(keys, max_size=4) | st.frozensets(keys, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=20,
)


def shown(value):
    """A picture that tells types, order and the sign of zero apart, and takes NaN for equal."""
    if isinstance(value, dict):
        return ("dict", [(shown(key), shown(item)) for key, item in value.items()])
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [shown(item) for item in value])
    if isinstance(value, (set, frozenset)):
        return (type(value).__name__, sorted(map(repr, map(shown, value))))
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return (type(value).__name__, repr(value))


@given(values)
def test_whatever_goes_in_comes_out(value):
    data = encode(value)
    assert shown(decode(data)) == shown(value)
    assert encode(decode(data)) == data


@given(st.recursive(leaves, lambda inner: st.dictionaries(st.text("ab", min_size=1), inner, min_size=1, max_size=3)))
def test_unflatten_undoes_flatten(value):
    nested = {"root": value}
    assert shown(unflatten(flatten(nested))) == shown(nested)
