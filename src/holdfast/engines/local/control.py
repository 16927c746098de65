"""What driver and server say to each other about workers' processes: one packet per order or notice."""

from __future__ import annotations

import struct

__all__ = ["ENDED", "KILL", "ORDER", "READY", "START"]

ORDER = struct.Struct("<IIiiQ")
"""A verb, a worker's number, a pid, a wait status, bytes of memory at the most."""
START, KILL, READY, ENDED = 1, 2, 3, 4
