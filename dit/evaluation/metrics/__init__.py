"""The figures of samples, one file each: a class that fits `Metric`, from two sets of features to named figures."""
