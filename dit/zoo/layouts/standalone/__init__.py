"""Code that works without this package, made of this package's own sources."""
