"""Run the small run in a process of its own: train_fake.py OUTPUT OVERRIDES-AS-JSON [--resume].

A process that was forked hands its arguments, its failpoint, its environment and the file that it speaks into over as
globals.
"""

import json
import os
import sys

import torch
import torch.distributed as dist

from dit.errors import DitError, Preempted
from dit.training.loop import run
from dit.training.monitor import quality

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    from fakes import make_extractor, make_held_out, make_parts, make_recipe

    quality.load_features, quality.open_images = make_extractor, make_held_out
    torch.set_num_threads(1)
    os.environ |= globals().get("ENVIRONMENT", {})
    if path := globals().get("STDERR"):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    output, overrides, *flags = globals().get("ARGUMENTS", sys.argv[1:])
    os.environ["DIT_FAILPOINT"] = globals().get("FAILPOINT", os.environ.get("DIT_FAILPOINT", ""))
    own = json.loads(overrides) | json.loads(os.environ.get(f"OVERRIDES_{os.environ.get('RANK', '0')}", "{}"))
    recipe = make_recipe(**own)
    try:
        run(recipe, *make_parts(recipe), output, resume="--resume" in flags)
    except (DitError, Preempted) as error:
        print(f"dit: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    if dist.is_initialized():
        dist.destroy_process_group()
