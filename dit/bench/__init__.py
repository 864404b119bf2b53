"""Benchmarks: this package against what a user would take instead, and against the limit of the machine."""
