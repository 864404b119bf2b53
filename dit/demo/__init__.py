"""A page to play with models: `dit demo`. Served on the loopback address, it works without a network."""
