"""Images with labels, their split into training and held-out parts, and the order in which training uses them."""
