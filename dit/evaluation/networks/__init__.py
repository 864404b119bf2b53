"""The networks in whose features samples are measured, and how images are resized for them."""
