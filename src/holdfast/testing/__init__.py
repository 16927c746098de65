"""Public tools for tests: a disk that crashes, conformance suites for the ports."""
