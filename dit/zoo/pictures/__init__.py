"""Many samples, and pictures that explain a model."""
