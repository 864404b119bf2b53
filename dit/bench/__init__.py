"""Benchmarks: this package against what a user would take instead."""
