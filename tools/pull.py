"""`dit pull` as a file, which torchrun and accelerate launch can start."""

import sys

from dit.cli import main

if __name__ == "__main__":
    sys.exit(main(["pull", *sys.argv[1:]]))
