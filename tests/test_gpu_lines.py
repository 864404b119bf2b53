"""Every line that asks for CUDA is in the table of docs/gpus.md, with a test that would run it."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| `(dit/\S+\.py)` \|.*\| `(test_\w+)` \|$", re.MULTILINE)


def asks_for_cuda(source: str) -> bool:
    """Tell whether code, and not only what is said in a docstring, names CUDA."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr == "cuda":
            return True
        if isinstance(node, ast.Constant) and node.value == "cuda":
            return True
    return False


def gpu_tests() -> set[str]:
    """Return the names of all tests that a GPU runs."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        source = path.read_text()
        if "mark.gpu" not in source:
            continue
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and any(
                word in ast.unparse(decorator) for decorator in node.decorator_list for word in ("mark.gpu", "DEVICES")
            ):
                found.add(node.name)
    return found


def test_every_line_that_asks_for_cuda_is_listed_with_its_test():
    listed = dict(ROW.findall((ROOT / "docs" / "gpus.md").read_text()))
    paths = (path for path in (ROOT / "dit").rglob("*.py") if asks_for_cuda(path.read_text()))
    assert sorted(listed) == sorted(str(path.relative_to(ROOT)) for path in paths)
    assert set(listed.values()) <= gpu_tests()


def test_help_alone_is_not_asked():
    assert not asks_for_cuda('"""Such as cuda."""')
    assert asks_for_cuda('device == "cuda"')
    assert asks_for_cuda("torch.cuda.synchronize()")
