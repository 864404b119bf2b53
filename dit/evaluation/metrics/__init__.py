"""The figures of samples, one file each: a class that fits `Metric`, of which `DescribedImages` keeps one a set."""
