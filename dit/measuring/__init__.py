"""Measuring a source: what makes samples meets what measures them, in any number of processes."""
