"""Rules of the code base: layers of imports, sizes of modules and folders, names."""

import ast
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from conftest import ROOT, tiny_args

PACKAGE = ROOT / "src" / "maskfold"
# From the lowest layer up: folders, "" for the modules beside them, "__init__" for maskfold/__init__.py, which offers the
# Python API. Folders of one layer do not import each other.
LAYERS = (
    ("",),
    ("config", "metrics", "photos"),
    ("data", "models"),
    ("loading", "synthetic"),
    ("runs",),
    ("training",),
    ("inference",),
    ("new_photos",),
    ("pages",),
    ("evaluation", "search"),
    ("audit", "export"),
    ("report",),
    ("commands",),
    ("__init__",),
)
LAYER = {folder: number for number, folders in enumerate(LAYERS) for folder in folders}
FOLDERS = sorted(set(LAYER) - {"", "__init__"})
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
MAX_MODULES, MAX_LINES = 16, 200
ENDING = re.compile(r"(ations?|ates?|ings?|ions?|ers?|ors?|ed|es|e|s)$")
# A module of commands/ is named after its verb, also where a folder holds what the verb does: {verb: that folder}.
FOLDER_BY_VERB = {
    "audit": "audit",
    "evaluate": "evaluation",
    "export": "export",
    "report": "report",
    "train": "training",
}


def module_of(path):
    return ".".join(("maskfold", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def folder_of(module: str) -> str:
    """The folder of a module, or of a folder's __init__.py, as LAYERS names it."""
    _, *parts = module.split(".")
    if not parts:
        return "__init__"
    return parts[0] if parts[0] in FOLDERS else ""


def imports(path):
    """Modules of the package that a file imports, at any place in the file."""
    modules = {module_of(other) for other in PACKAGE.rglob("*.py")}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = [f"{node.module}.{name.name}" for name in node.names]
            yield from {name if name in modules else node.module for name in names if name.startswith("maskfold.")}
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("maskfold"))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=module_of)
def test_imports_go_down_only(path):
    mine = folder_of(module_of(path))
    others = [folder_of(module) for module in imports(path)]
    assert not [other for other in others if other != mine and LAYER[other] >= LAYER[mine]]


def test_every_folder_has_a_layer():
    assert {path.parent.name for path in PACKAGE.glob("*/*.py")} == set(FOLDERS)


def test_the_tests_have_the_folders_of_the_package():
    tests = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert set(FOLDERS) - tests == set()


def test_contributing_shows_the_layers():
    """The diagram of CONTRIBUTING.md names the folders of each layer, the lowest last."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = text.split("<!-- layers -->")[1].split("```")[1]
    rows = [line.split("|")[0].split() for line in block.strip().splitlines() if "|" in line]
    diagram = [tuple(word.removesuffix("/").removesuffix(".py") for word in words) for words in reversed(rows)]
    assert [tuple(sorted(words)) for words in diagram] == [
        tuple(sorted(folder or "maskfold" for folder in folders)) for folders in LAYERS
    ]


def test_folders_and_modules_are_small():
    for folder in ("", *FOLDERS):
        modules = [path for path in MODULES if (path.parent.name if path.parent != PACKAGE else "") == folder]
        assert len(modules) <= MAX_MODULES or folder == "commands", folder
    too_long = {module_of(path): n for path in MODULES if (n := len(path.read_text().splitlines())) > MAX_LINES}
    assert not too_long


def test_module_names_are_distinct():
    """No two modules or folders have the same name or differ only by an ending; none hides a standard library module."""
    names = sorted([*(path.stem for path in MODULES), *FOLDERS])
    assert not set(names) & set(sys.stdlib_module_names)
    for verb, folder in FOLDER_BY_VERB.items():
        assert (PACKAGE / "commands" / f"{verb}.py").exists()
        names.remove(folder)
    stems = {}
    for name in names:
        stem = ENDING.sub("", name)
        assert stem not in stems, f"{name} and {stems[stem]}"
        stems[stem] = name


def public_names(path):
    """The functions, classes and variables that a module defines, without the private ones; an overload counts once."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def test_public_names_are_distinct():
    """No name stands for two things: a search for it, and a line that imports it, need no second look."""
    modules_by_name = defaultdict(list)
    for path in MODULES:
        for name in public_names(path):
            # Every module of commands/ has the function main.
            if (path.parent.name, name) != ("commands", "main"):
                modules_by_name[name].append(module_of(path))
    assert not {name: modules for name, modules in modules_by_name.items() if len(modules) > 1}


def test_names_say_what_the_value_is():
    """No assignment and no parameter in src has a name that says nothing."""
    nameless = {"found", "said", "held", "told", "at", "of", "it", "res", "out2", "tmp", "obj"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.arg):
                assert node.arg not in nameless, f"{path}:{node.lineno}: {node.arg}"
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                assert node.id not in nameless, f"{path}:{node.lineno}: {node.id}"


def test_scores_import_only_labels():
    assert set(imports(PACKAGE / "metrics" / "scores.py")) == {"maskfold.labels"}


def test_no_import_cycles():
    graph = {module_of(path): set(imports(path)) for path in PACKAGE.rglob("*.py")}
    done: set[str] = set()

    def visit(module, trail):
        assert module not in trail, f"cycle: {[*trail, module]}"
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_parsing_a_command_line_loads_no_heavy_library():
    code = "import sys, maskfold.config.cli; print(sorted({'torch', 'albumentations', 'pandas', 'timm', 'wandb'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


HEAVY = ["torch", "timm", "albumentations", "pandas", "sklearn", "matplotlib", "torchvision", "scipy", "wandb"]
HEAVY += ["accelerate", "torch._dynamo"]


def imported(home, verb, *words, status=0):
    """The heavy libraries that a script imports; status: the exit status that it should have."""
    code = f"""
import runpy, sys
sys.argv = ["{verb}.py", *{list(map(str, words))}]
try:
    runpy.run_path("{ROOT}/scripts/{verb}.py", run_name="__main__")
except SystemExit as end:
    assert (end.code or 0) == {status}, end.code
print("imported:", *sorted(set({HEAVY}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("imported:")[2].split()


VERBS = ["pipeline", "prepare", "find_lr", "train", "evaluate", "submit", "predict", "export", "report", "audit"]
VERBS += ["leaderboard", "clean"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_and_wrong_arguments_import_nothing_heavy(verb, tmp_path):
    assert imported(tmp_path, verb, "--help") == []
    assert imported(tmp_path, verb, "--no-such-flag", status=2) == []


def test_finished_commands_import_nothing_heavy(script, trained, tmp_path):
    """A finished run, a submission and a report whose inputs have not changed."""
    run = Path(shutil.copytree(trained.run.folder, tmp_path / "runs" / "tiny"))
    train = tiny_args(trained.raw, "--data.prepared", trained.prepared, "--name", "tiny")
    submit, report = (run, "--out", tmp_path / "s.csv"), (run, "--out", tmp_path / "page.html")
    assert script("submit", *submit).code == 0
    assert script("report", *report).code == 0
    for verb, words in (("train", train), ("submit", submit), ("report", report)):
        assert imported(tmp_path, verb, *words) == [], verb
    assert not {"torch", "timm", "accelerate", "albumentations", "wandb"} & set(imported(tmp_path, "evaluate", run))


@pytest.mark.slow
def test_training_imports_no_compiler(trained, tmp_path):
    """A first update imports torch and timm, but not torch's compiler, torchvision, W&B or the plots."""
    train = tiny_args(trained.raw, "--data.prepared", trained.prepared, "--name", "first", "--stop-after", "1s")
    libraries = set(imported(tmp_path, "train", *train))
    assert libraries >= {"torch", "timm"}
    assert not {"torch._dynamo", "torchvision", "wandb", "matplotlib", "sklearn"} & libraries


def libraries_of(module):
    """{library: the module that imports it} of the libraries that importing a module of the package imports too."""
    libraries, seen, todo = {}, set(), [module]
    while todo:
        if (current := todo.pop()) in seen:
            continue
        seen.add(current)
        path = PACKAGE.joinpath(*current.split(".")[1:])
        path = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module.startswith("maskfold"):
                inner = [f"{node.module}.{name.name}" for name in node.names]
                todo += [name if name.replace(".", "/") in MODULE_PATHS else node.module for name in inner]
            elif isinstance(node, ast.ImportFrom | ast.Import):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
                libraries |= {name.partition(".")[0]: current for name in names}
    return libraries


MODULE_PATHS = {module_of(path).replace(".", "/") for path in MODULES}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        *((f"commands.{path.stem}", HEAVY) for path in sorted((PACKAGE / "commands").glob("*.py"))),
        ("evaluation.finished_run", HEAVY),
        ("evaluation.score_tables", HEAVY),
        ("inference.unchanged_inputs", HEAVY),
        ("report.page_record", HEAVY),
        ("runs.disk_cleanup", HEAVY),
        ("evaluation.score_runs", ["torch", "timm", "albumentations", "sklearn", "matplotlib", "accelerate"]),
        ("evaluation.submission_tables", ["torch", "timm", "albumentations", "sklearn", "matplotlib", "accelerate"]),
        ("inference.submission", ["torch", "timm", "albumentations", "sklearn", "matplotlib", "accelerate"]),
        ("training.fit", ["sklearn", "matplotlib", "scipy", "wandb", "torchvision", "albumentations"]),
    ],
)
def test_modules_import_only_what_they_use(module, heavy):
    """Read from the source code; the tests above start the commands."""
    libraries = libraries_of(f"maskfold.{module}")
    assert not {name: importer for name, importer in libraries.items() if name in heavy}


def test_only_labels_knows_the_class_formula():
    """No comparison with an age limit and no literal number of classes outside labels.py."""
    for path in PACKAGE.rglob("*.py"):
        if path.name in ("labels.py", "rendering.py", "portrait.py", "demo_data.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                numbers = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                assert not {30, 60} & set(n for n in numbers if isinstance(n, int)), f"{path}:{node.lineno}"
            if isinstance(node, ast.Constant) and node.value == 18 and not isinstance(node.value, bool):
                raise AssertionError(f"{path}:{node.lineno}: 18 outside labels.py")


def test_both_opencv_wheels_have_one_version():
    """Both wheels install into the same cv2 folder."""
    from importlib.metadata import version

    assert version("opencv-python") == version("opencv-python-headless")


def test_no_test_imports_another():
    """What several tests use lies in conftest.py, support.py and modules without tests."""
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            assert not tests & set(names), path
