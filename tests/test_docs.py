"""The documentation: its commands parse and run, its links have targets, its generated parts are up to date."""

import ast
import errno
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from maskfold.commands.console import VERBS
from maskfold.config.cli import Parser, config_overrides
from maskfold.config.experiment import KEYS, Config, ConfigSection
from maskfold.config.yaml_file import load_config
from maskfold.loading.augmentations import pipeline

README, KOREAN, DOCS = ROOT / "README.md", ROOT / "README.ko.md", ROOT / "docs"
GUIDES = sorted(DOCS.glob("*.md"))
PAGES = [README, KOREAN, *GUIDES]
LINKING = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "EXPERIMENTS.md"]
# A block of code, and the comment above it that says why the tests do not run it: `<!-- needs: several GPUs -->`.
BLOCK = re.compile(r"(?:<!-- needs: ([^\n]+) -->\n)?^```(\w*)\n(.*?)^```$", re.M | re.S)
NEEDS = ("real data", "several GPUs", "two machines", "a W&B account", "minutes", "a GPU", "npm")
# The reader's data folder in examples, and the folder of the demo that replaces it in tests.
OWN_DATA, DEMO_DATA = "/path/to/data", "data/demo"
# Endings of file names that look like a key, such as pseudo.csv or model.onnx.
FILES = ("csv", "json", "safetensors", "onnx")
# Settings that make the experiments small, so that each command takes seconds.
SMALL = {"data": {"image_size": [32, 32]}, "model": {"backbone": "test_resnet", "pretrained": False}}
SMALL |= {"optim": {"epochs": 1, "warmup_epochs": 0, "accum_steps": 1}}


@dataclass(frozen=True)
class Block:
    """A code block of a page: language, text, and what it needs that tests do not have (empty: tests run it)."""

    language: str
    text: str
    needs: str

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def blocks(page: Path) -> list[Block]:
    return [Block(lang, text, needs) for needs, lang, text in BLOCK.findall(page.read_text(encoding="utf-8"))]


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


class ParserReached(Exception):
    """Carries the parser of a verb out of its main."""


@pytest.fixture
def parser_of(monkeypatch):
    """The real parser of a verb, with its flags: parser_of('train')."""

    def call(verb: str) -> Parser:
        def leave(parser, *_):
            raise ParserReached(parser)

        with monkeypatch.context() as patch, pytest.raises(ParserReached) as reached:
            patch.setattr(Parser, "parse_args", leave)
            importlib.import_module(f"maskfold.commands.{verb}").main()
        return reached.value.args[0]

    return call


def check_flags(parser: Parser, words: list[str]) -> None:
    """Raise UserError if a verb does not accept these words, or the schema their values."""
    if "--help" in words:
        return
    args = parser.parse_args(words)
    if hasattr(args, "file"):
        load_config(ROOT / args.file, config_overrides(args))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page, parser_of):
    """Every command exists, and its parser and the schema accept its flags and values."""
    targets = re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.M)
    for command in [command for block in blocks(page) if block.language == "sh" for command in block.commands]:
        program, *words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
        if program == "torchrun":
            script_index = next(n for n, word in enumerate(words) if word.endswith(".py"))
            program, words = "python", words[script_index:]
        if program == "make":
            assert not set(words) - set(targets), command
        elif program == "python":
            assert (ROOT / words[0]).is_file(), command
            check_flags(parser_of(Path(words[0]).stem), words[1:])
        else:
            assert program == "wandb", f"{page.name}: {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_and_keys_in_the_text_exist(page, parser_of):
    """`--optim.lr 3e-4` in a sentence or table is parsed by train.py; other flags and keys are looked up."""
    flags = {flag for verb in VERBS for flag in parser_of(verb.replace("-", "_"))._option_string_actions}
    sections = "|".join(name for name, field in Config() if isinstance(field, ConfigSection))
    for code in re.findall(r"`([^`\n]+)`", prose(page)):
        if re.match(rf"--({sections})\.\w+ ", code):
            check_flags(parser_of("train"), ["configs/demo.yaml", *shlex.split(code)])
        elif code.startswith("--"):
            assert code.split()[0].rstrip(":") in flags, code
        elif (key := re.match(rf"(?:{sections})\.\w+", code)) and not key[0].endswith(FILES):
            assert key[0] in KEYS, code


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_files_in_the_text_exist(page):
    """A module, script or experiment in code font, by its path or its name alone."""
    places = (ROOT, ROOT / "src" / "maskfold", ROOT / "configs")
    files = {path.name for path in ROOT.glob("[!.]*/**/*.py")} | {path.name for path in ROOT.glob("configs/*.yaml")}
    for name in re.findall(r"`([\w./]+\.(?:py|yaml))`", prose(page)):
        there = any((place / name).is_file() for place in places) if "/" in name else name in files
        assert there or "VERB" in name or name == "config.yaml", name


def test_yaml_examples_are_configurations(tmp_path):
    examples = [block.text for page in PAGES for block in blocks(page) if block.language == "yaml"]
    assert examples
    for text in examples:
        (tmp_path / "example.yaml").write_text(text, encoding="utf-8")
        assert pipeline(load_config(tmp_path / "example.yaml").data)


def test_blocks_that_are_not_run_have_a_known_reason():
    for block in [block for page in PAGES for block in blocks(page)]:
        assert not block.needs or block.needs.startswith(NEEDS), block.needs
        assert block.language in ("sh", "python", "yaml", ""), block.language


def test_the_korean_readme_has_the_same_commands():
    commands_of_pages = [
        [(b.text, bool(b.needs)) for b in blocks(page) if b.language == "sh"] for page in (README, KOREAN)
    ]
    assert commands_of_pages[0] == commands_of_pages[1]
    assert KOREAN.name in README.read_text(encoding="utf-8")
    assert README.name in KOREAN.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings on GitHub."""
    titles = [line.lstrip("#").strip().lower() for line in prose(page).splitlines() if re.match(r"#+ ", line)]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.name)
def test_link_targets_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_pages_are_short_linked_and_begin_with_a_command():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150
    for page in GUIDES:
        assert f"docs/{page.name}" in README.read_text(encoding="utf-8")
        before, code, _ = page.read_text(encoding="utf-8").partition("```")
        assert code, page
        assert "\n## " not in before, page
    assert (DOCS / "images" / "synthetic_people.webp").stat().st_size < 150_000


def test_the_configuration_reference_is_up_to_date():
    spec = importlib.util.spec_from_file_location("build", DOCS / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == build.configuration(), "run `make docs`"
    assert all(f"`{key}`" in build.configuration() for key in KEYS)


# Words of an unnatural English, which have clearer replacements.
REPLACED_WORDS = re.compile(r"\b(mend|mended|gone on with|goes on with|taken for|surest|whom|be told|was told)\b", re.I)


def test_replaced_words_are_not_used():
    """In all tracked text but the licences of other projects."""
    paths = ["src", "scripts", "notebooks", "README.md", "docs", "configs", ":!*/LICENSE"]
    done = subprocess.run(["git", "ls-files", *paths], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    texts = [ROOT / name for name in done.stdout.splitlines() if not name.endswith((".gz", ".onnx", ".webp"))]
    assert len(texts) > 200
    lines = [(path.name, line) for path in texts for line in path.read_text(encoding="utf-8").splitlines()]
    assert not [(name, line) for name, line in lines if REPLACED_WORDS.search(line)]


def test_troubleshooting_covers_all_modules_that_raise():
    """The comment below each heading names the modules whose messages the section explains."""
    package = ROOT / "src" / "maskfold"
    trees = {path.relative_to(package).as_posix(): ast.parse(path.read_text()) for path in package.rglob("*.py")}
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    errors = {"UserError"}
    while more := {c.name for c in classes if {ast.unparse(b) for b in c.bases} & errors} - errors:
        errors |= more
    calls = {name: [ast.unparse(n.func) for n in ast.walk(t) if isinstance(n, ast.Call)] for name, t in trees.items()}
    raising = {name for name, made in calls.items() if errors & set(made)}
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    explained = [name for names in re.findall(r"<!-- ((?:\S+\.py ?)+)-->", text) for name in names.split()]
    assert raising - set(explained) == set(), "modules without a section"
    assert sorted(explained) == sorted(raising), "modules that do not raise, or are named twice"


def messages(tree):
    """The texts that a module can print; what is formatted into them is a NUL."""
    blocks = (ast.Module, ast.ClassDef, ast.FunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, blocks)]
    docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_troubleshooting_quotes_messages_that_exist():
    """`...` stands for a value."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "src").rglob("*.py")]
    texts = [text for tree in trees for text in messages(tree)] + [os.strerror(number) for number in errno.errorcode]
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8").partition("\n## Command line\n")[2]
    symptoms = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    quoted = [fragment for symptom in symptoms for fragment in re.findall(r"`([^`]+)`", symptom)]
    assert len(quoted) > 90
    patterns = {
        one: re.compile(".*".join(re.escape(part.strip()) for part in one.split("...")), re.S) for one in quoted
    }
    assert not [one for one, pattern in patterns.items() if not any(pattern.search(text) for text in texts)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, Path]:
    """A copy of the repository after `make demo` with few people and small experiments, and a copy to restore it from."""
    home = tmp_path_factory.mktemp("docs") / "maskfold"
    for name in ("configs", "docs", "scripts", "src"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, home)
    makefile = (ROOT / "Makefile").read_text()
    assert "--people 120 --eval-people 40" in makefile
    (home / "Makefile").write_text(makefile.replace("--people 120 --eval-people 40", "--people 18 --eval-people 6"))
    for path in (home / "configs").glob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        for section, keys in SMALL.items():
            content[section] = content.get(section, {}) | keys
        path.write_text(yaml.safe_dump(content))
    # Skips the installation: the tests' own environment is used.
    (home / ".venv").mkdir()
    (home / ".venv" / ".installed").touch()
    in_shell("make demo", home)
    kept = home.with_name("kept")
    shutil.copytree(home, kept)
    return home, kept


def in_shell(command: str, home: Path) -> None:
    env = os.environ | {"MAKEFLAGS": f"PY={sys.executable}", "PYTHONPATH": str(home / "src")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(command, shell=True, cwd=home, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, *GUIDES], ids=lambda page: page.name)
def test_commands_run(page, demo, script, monkeypatch):
    """Run the blocks of a page in order; each page starts from the state after `make demo`."""
    home, kept = demo
    shutil.rmtree(home)
    shutil.copytree(kept, home)
    monkeypatch.chdir(home)
    names: dict = {}
    for block in [block for block in blocks(page) if not block.needs]:
        if block.language == "python":
            exec(compile(block.text, page.name, "exec"), names)
        for command in block.commands if block.language == "sh" else ():
            command = command.replace(OWN_DATA, DEMO_DATA)
            program, *words = shlex.split(command)
            if program != "python":
                in_shell(command, home)
                continue
            # In this process, because importing torch takes longer than most of these commands.
            done = script(Path(words[0]).stem, *words[1:])
            assert not done.code, f"{command}\n{done.out}{done.err}"
