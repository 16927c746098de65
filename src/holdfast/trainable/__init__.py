"""Class trainables. `Trainable` is what users derive from; the rest is for those who run trials."""

from __future__ import annotations

from holdfast.trainable.base import Trainable, can_save

__all__ = ["Trainable", "can_save"]
