"""Latents that other code bases wrote, each format a reader; opened as they are, nothing is converted."""
