"""The runtime: the one loop, recovery, and how plug-ins are asked. Knows ports, never adapters."""
