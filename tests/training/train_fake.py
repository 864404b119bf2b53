"""Run the small run in a process of its own: train_fake.py OUTPUT OVERRIDES-AS-JSON [--resume]."""

import json
import os
import sys

import torch
from fakes import make_parts, make_recipe  # this file's folder is the first on the path

from dit.errors import DitError, Preempted
from dit.training.loop import run

if __name__ == "__main__":
    torch.set_num_threads(1)
    output, overrides, *flags = sys.argv[1:]
    own = json.loads(overrides) | json.loads(os.environ.get(f"OVERRIDES_{os.environ.get('RANK', '0')}", "{}"))
    recipe = make_recipe(**own)
    try:
        run(recipe, *make_parts(recipe), output, resume="--resume" in flags)
    except (DitError, Preempted) as error:
        print(f"dit: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
