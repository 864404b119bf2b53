"""Whole programs: how long they take from the start, and how much memory they need at most."""

import json
import subprocess
import sys
from dataclasses import dataclass

from dit.bench.harness import timed

# Peak resident memory above what the imports took, and the seconds after them, of a program in two parts.
_FRAME = """
import json, time
{imports}
def peak():
    # Not getrusage: its peak is inherited from the process that started this one.
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
before, start = peak(), time.perf_counter()
{work}
seconds = time.perf_counter() - start
memory = peak() - before
print(json.dumps({{"seconds": seconds, "kilobytes": memory}}))
"""


@dataclass(frozen=True)
class Cost:
    """What a program took after its imports."""

    seconds: float
    """Time."""
    bytes: int
    """Growth of its peak memory."""


def program_seconds(arguments: list[str]) -> float:
    """Return how long a Python program takes from its start to its end."""
    return timed(lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL))


def cost_after_imports(imports: str, work: str) -> Cost:
    """Return what the second part of a program takes in a process of its own."""
    program = _FRAME.format(imports=imports, work=work)
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    measured = json.loads(output.splitlines()[-1])
    return Cost(measured["seconds"], 1024 * measured["kilobytes"])
