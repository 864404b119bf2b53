"""Which of a launcher's processes this is: torchrun and accelerate number them in the environment."""

import os


def rank() -> int:
    """Return this process's number among all, from 0."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Return this process's number among those of this machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def num_processes() -> int:
    """Return the number of processes on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Tell whether this process is the one that speaks."""
    return rank() == 0
