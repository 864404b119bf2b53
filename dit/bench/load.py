"""`load`: DiT-XL/2 from disk to the end of its first forward pass, and the memory for it; imports are not counted.

Files are in the page cache on both sides.
"""

import statistics
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from dit.bench.harness import Row, quartiles
from dit.bench.peers import diffusers_dit
from dit.bench.programs import Cost, cost_after_imports
from dit.bench.settings import Settings
from dit.models.dit import DiT
from dit.models.variants import resolve_arguments

_CALL = "with torch.no_grad(): model(torch.zeros(1, 4, 32, 32), torch.zeros(1), torch.zeros(1).long())"
_OURS = """
model, files = empty_model({name!r}, {{}}), [Path({file!r})]
model = fill(model, files, block_dtype=fast_precision(model, files, "cpu"))
"""  # as `load_pipeline` does
_ORIGINAL = """
model = create_model({name!r})
model.load_state_dict(torch.load({file!r}, weights_only=True))
model.eval()
"""
_DIFFUSERS = """
model = DiTTransformer2DModel.from_pretrained({file!r}, torch_dtype=torch.{dtype})
"""


def run(settings: Settings) -> list[Row]:
    """Measure seconds and peak memory."""
    name, rounds = ("dit_s_2", 1) if settings.quick else ("dit_xl_2", 3)
    settings.say(f"load {name}")
    with tempfile.TemporaryDirectory() as folder:
        size = write_files(Path(folder), name)
        programs = _programs(Path(folder), name)
        costs: dict[str, list[Cost]] = {contender: [] for contender in programs}
        for number in range(rounds + 1):
            for contender, (imports, work) in programs.items():
                cost = cost_after_imports(imports, work)
                settings.say(f"    {contender}: {cost.seconds:.2f} s, {cost.bytes / 1e9:.2f} GB")
                if number:  # the first round brings the files into the page cache
                    costs[contender].append(cost)
    rows = []
    for peer in programs:
        if peer == "dit":
            continue
        own, other = costs["dit"], costs[peer]
        seconds = [[cost.seconds for cost in side] for side in (own, other)]
        memory = [[cost.bytes / size for cost in side] for side in (own, other)]
        rows.append(_row(f"{name} to first forward", peer, seconds[0], seconds[1], "s"))
        rows.append(_row(f"{name} peak memory", peer, memory[0], memory[1], "file sizes"))
    return rows


def write_files(folder: Path, name: str) -> int:
    """Write one network as safetensors, as `.pt` and as diffusers' folder; return its bytes."""
    with torch.device("meta"):
        model = DiT(**resolve_arguments(name))
    model.to_empty(device="cpu").requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.02)
    save_file(model.state_dict(), folder / "model.safetensors")
    torch.save(model.state_dict(), folder / "model.pt")
    diffusers_dit(resolve_arguments(name)).save_pretrained(folder / "diffusers")  # pyright: ignore
    return (folder / "model.safetensors").stat().st_size


def _programs(folder: Path, name: str) -> dict[str, tuple[str, str]]:
    plain = _CALL
    ours = (
        "import torch\nfrom pathlib import Path\nfrom dit.zoo.pipeline import fast_precision\n"
        "from dit.zoo.folder.weights import empty_model, fill"
    )
    created = "import torch\nfrom dit.models import create_model"
    theirs = "import torch\nfrom diffusers import DiTTransformer2DModel"
    images = "torch.zeros(1, 4, 32, 32, dtype=model.dtype)"
    call = f"with torch.no_grad(): model({images}, torch.zeros(1).long(), torch.zeros(1).long())"
    return {
        "dit": (ours, _OURS.format(name=name, file=str(folder / "model.safetensors")) + plain),
        "initialise, torch.load": (created, _ORIGINAL.format(name=name, file=str(folder / "model.pt")) + plain),
        **{
            f"diffusers from_pretrained {dtype}": (
                theirs,
                _DIFFUSERS.format(file=str(folder / "diffusers"), dtype=dtype) + call,
            )
            for dtype in ("float32", "bfloat16")
        },
    }


def _row(case: str, peer: str, ours: list[float], theirs: list[float], unit: str) -> Row:
    low, ratio, high = quartiles([b / a for a, b in zip(ours, theirs, strict=True)])
    return Row("load", case, peer, ratio, low, high, None, statistics.median(ours), statistics.median(theirs), unit)
