"""Building blocks that model families share. D width, T tokens, p patch side, C channels, d head width."""
