"""The composition root: the only room that puts adapters together.

`submission` turns what a user says into an experiment on disk, `driving` runs one epoch of it.
"""

from __future__ import annotations
