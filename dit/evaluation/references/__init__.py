"""What samples are measured against: published files as they are, and one's own."""
