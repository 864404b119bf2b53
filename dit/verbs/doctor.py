"""`dit doctor`: what a bug report needs to say about this machine."""

import os
import platform
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

Lines = Iterator[tuple[str, str]]


def run() -> None:
    """Show what this machine has: versions, devices, what is fast on them, caches, Hub login and free disk.

    A page to paste into a bug report: no token, no host name, and the home folder as ~. Nothing is downloaded.
    """
    from dit import __version__

    print(f"dit {__version__} on Python {platform.python_version()}, {platform.platform()}")
    for title, lines in (("packages", _packages()), ("devices", _devices()), ("fast", _fast()), ("places", _places())):
        print(f"\n{title}")
        for name, value in lines:
            print(f"  {name:<20} {value}")


def _packages() -> Lines:
    """Yield the version of every package that this one can use, optional ones too."""
    declared = requires("dit-zoo") if _version("dit-zoo") else None
    if declared is None:
        yield "dit-zoo", "not installed, though it can be imported: pip install it, or this checkout"
    for name in sorted({re.split(r"[^\w.-]", text)[0] for text in declared or ("torch", "numpy")}):
        yield name, _version(name) or "not installed"


def _devices() -> Lines:
    import torch

    from dit.device import processor_name

    threads, instructions = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    yield "cpu", f"{processor_name()}, {threads} threads, {instructions}"
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        yield f"cuda:{index}", f"{facts.name}, {_size(total)}, {_size(free)} free, CUDA {torch.version.cuda}"
    if not torch.cuda.is_available():
        yield "cuda", f"no GPU that torch can use (built for CUDA {torch.version.cuda or 'none'})"
    if torch.backends.mps.is_available():
        yield "mps", "available"
    for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        if name in os.environ:
            yield name, os.environ[name]


def _fast() -> Lines:
    """Yield what this package chooses by itself here, and why not where it does not."""
    import torch

    from dit.layers.compiler import has_compiler
    from dit.layers.linear import has_fused_kernel
    from dit.layers.precision import MIN_WIDTH, bf16_pays

    for kind in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        device = torch.device(kind)
        yield (
            f"bfloat16, {kind}",
            "yes" if bf16_pays(device, MIN_WIDTH) else "no: float32 is as fast on this device",
        )
        needs = "Triton" if kind == "cuda" else "a C++ compiler, g++ or $CXX"
        yield f"torch.compile, {kind}", "yes" if has_compiler(device) else f"no: it needs {needs}"
    yield (
        "fused layers, cpu",
        "yes" if has_fused_kernel() else "no: oneDNN has no kernel for bfloat16 on this processor",
    )
    yield "--quantize", "yes" if _version("torchao") else "no: pip install 'dit-zoo[quantize]'"


def _places() -> Lines:
    """Yield the folders that grow, what they hold, and the room that is left."""
    from huggingface_hub import get_token
    from huggingface_hub.constants import HF_HUB_CACHE

    from dit.files import cache_folder

    for name, folder in (("cache of dit", cache_folder("")), ("cache of the Hub", Path(HF_HUB_CACHE))):
        used = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
        yield name, f"{_shown(folder)}, {_size(used)}"
    yield "Hub login", "a token is there" if get_token() else "none: `hf auth login`"
    for name, folder in (("free, cache", cache_folder("")), ("free, here", Path.cwd())):
        there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
        yield name, _size(shutil.disk_usage(there).free)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _shown(path: Path) -> str:
    home = str(Path.home())
    return f"~{str(path).removeprefix(home)}" if str(path).startswith(home) else str(path)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
