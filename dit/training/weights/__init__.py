"""What happens to the weights: optimizer, averages, averages of any width after the run."""
