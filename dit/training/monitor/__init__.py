"""What a run says of itself: totals of a step, health, validation loss, previews, reports."""
