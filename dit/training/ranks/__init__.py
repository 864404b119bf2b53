"""The processes that train together: what they tell each other, who still lives, signals."""
