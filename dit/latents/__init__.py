"""Images as latents of an autoencoder: the codec, the cache of moments on the disk, and the data set read from it."""
