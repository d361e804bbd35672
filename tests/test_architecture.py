"""The house's rules, read off the code."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

PACKAGE = ROOT / "src" / "maskfold"
# A file may import from its own floor and from those below.
FLOORS = {"data": 1, "models": 2, "training": 3, "inference": 4, "analysis": 5}
# What training and inference measure with: the low rooms of analysis.
LOW = {
    "maskfold.analysis",
    *(f"maskfold.analysis.{name}" for name in ("metrics", "bootstrap", "calibration", "mistakes")),
}


def module_of(path):
    return ".".join(("maskfold", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def floor(module: str) -> int:
    parts = module.split(".")
    return 0 if module in LOW or (len(parts) < 3 and parts[-1] not in FLOORS) else FLOORS[parts[1]]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("maskfold"):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("maskfold"))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=module_of)
def test_imports_go_down_only(path):
    upward = [found for found in imports(path) if floor(found) > floor(module_of(path))]
    assert not upward


def test_metrics_import_labels_alone():
    assert set(imports(PACKAGE / "analysis" / "metrics.py")) == {"maskfold.labels"}


def test_no_circles():
    graph = {module_of(path): set(imports(path)) for path in PACKAGE.rglob("*.py")}
    done: set[str] = set()

    def visit(module, trail):
        assert module not in trail, f"circle: {[*trail, module]}"
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_parsing_a_command_line_loads_no_heavy_library():
    code = "import sys, maskfold.cli; print(sorted({'torch', 'albumentations', 'pandas', 'timm', 'wandb'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_kept_predictions_are_blended_without_torch():
    """What a submission of cached predictions imports."""
    code = "import sys, maskfold.inference.submission; print(sorted({'torch', 'albumentations', 'timm'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_class_formula_stands_in_one_file():
    """A comparison with an age limit, or a number of classes written out, outside labels.py."""
    for path in PACKAGE.rglob("*.py"):
        if path.name in ("labels.py", "drawing.py", "portrait.py", "demo.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                numbers = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                assert not {30, 60} & set(n for n in numbers if isinstance(n, int)), f"{path}:{node.lineno}"
            if isinstance(node, ast.Constant) and node.value == 18 and not isinstance(node.value, bool):
                raise AssertionError(f"{path}:{node.lineno}: 18 outside labels.py")


def test_the_one_opencv():
    """Two wheels share the cv2 folder: they must be one version."""
    from importlib.metadata import version

    assert version("opencv-python") == version("opencv-python-headless")
