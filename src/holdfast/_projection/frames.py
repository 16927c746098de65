"""Dataframes of flat rows, by the library that is asked for. Loaded when somebody asks for one."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from holdfast.errors import ConfigError

__all__ = ["LIBRARIES", "frame", "has_pandas"]

LIBRARIES = ("pandas", "polars")


def frame(lines: list[dict[str, Any]], library: str = "pandas") -> Any:
    """The rows as a dataframe, one column for each key; what a row lacks is missing there.

    Raises:
        ConfigError: No such library, or it is not installed.
    """
    if library not in LIBRARIES:
        raise ConfigError(f"library={library!r}: 'pandas' or 'polars'.")
    if find_spec(library) is None:
        raise ConfigError(
            f"Dataframes need {library}, which is not installed: pip install 'holdfast[{library}]'. Result.metrics needs nothing."
        )
    if library == "pandas":
        import pandas

        return pandas.DataFrame(lines)
    import polars

    names = dict.fromkeys(name for line in lines for name in line)
    return polars.DataFrame([_series(polars, name, [line.get(name) for line in lines]) for name in names])


def has_pandas() -> bool:
    """Whether pandas is installed."""
    return find_spec("pandas") is not None


def _series(polars: Any, name: str, values: list[Any]) -> Any:
    """A column of one type: as Polars sees it, floats where there are whole numbers too, else of Python's objects."""
    if {type(value) for value in values} - {type(None)} == {int, float}:
        values = [None if value is None else float(value) for value in values]
    try:
        return polars.Series(name, values)
    except (TypeError, ValueError, polars.exceptions.PolarsError):  # values of several types
        return polars.Series(name, values, dtype=polars.Object)
