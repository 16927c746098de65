"""Ray Tune's place for the domain classes; they live in `holdfast.space`."""

from __future__ import annotations

from holdfast.space import Categorical, Domain, Float, Function, Integer

__all__ = ["Categorical", "Domain", "Float", "Function", "Integer"]
