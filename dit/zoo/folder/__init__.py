"""What an exported folder is: its description, its weights, and what a run folder says of a model."""
