"""Frozen image encoders by name, from timm, which is imported when one is built: for latents, alignment and metrics."""
