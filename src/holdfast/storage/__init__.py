"""Where experiments live: the storage port and its adapters."""
