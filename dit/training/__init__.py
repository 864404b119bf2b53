"""Training: the loop, the optimizer, the weight average and the logs."""
