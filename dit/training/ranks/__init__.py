"""The processes that train together: what they tell each other, and who still lives."""
