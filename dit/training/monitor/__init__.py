"""What a run says of itself: measures, health, progress, validation, previews, reports."""
