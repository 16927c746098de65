"""The core: facts, states and orders as values. Pure: no I/O, clock, chance, threads or logging."""
