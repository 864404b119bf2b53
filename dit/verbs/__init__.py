"""The verbs of the command line, one file each: a function `run` whose signature and docstring are options and help."""
