"""Sampling: a time grid, a solver, guidance, and the one loop that previews, evaluation and users share."""
