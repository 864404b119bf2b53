"""Weights and what belongs to them: entries, pipelines, foreign formats, exported folders, cards and the Hub.

Levels: imports 0 to 3.
"""
