"""What runs attempts: the engine port and its adapters."""
