"""The folder of a run, its rows of metrics, and what continues it."""
