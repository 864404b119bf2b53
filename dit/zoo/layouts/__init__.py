"""Reading and writing the layouts that models are published in."""
