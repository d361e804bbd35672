"""Mutated files of every kind that the project reads: only UserError may escape, within 2 s and 500 MB.

`make test-all` runs 2,000 cases, always the same; `make fuzz` runs 100,000 with a new seed. A failure prints the target
and the content of the smallest file in base64; run it again with

    FUZZ_TARGET=... FUZZ_CONTENT=... python -m pytest tests/fuzz -m slow -k one_content
"""

import base64
import contextlib
import os
import sys
import time
import zlib
from pathlib import Path

import hypothesis
import pytest
from budget import budget
from hypothesis import HealthCheck, Phase
from targets import TARGETS, Target
from workspace import Workspace, build_workspace

from maskfold.errors import UserError

CASES, SEED = int(os.environ.get("FUZZ_CASES") or 2000), int(os.environ.get("FUZZ_SEED") or 0)
# Cases of a test: small enough that several processes share the work evenly.
MAX_PART = 500
PER_TARGET = -(-CASES // len(TARGETS))
PARTS = [(name, start) for name in TARGETS for start in range(0, PER_TARGET, MAX_PART)]


def use_folders(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Write runs and submissions into the project `home`."""
    patch.setenv("SM_MODEL_DIR", str(home / "runs"))
    patch.setenv("SM_OUTPUT_DATA_DIR", str(home / "submissions"))


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> tuple[Path, Workspace]:
    """The folder of a finished project, and its files."""
    home = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        use_folders(patch, home)
        return home, build_workspace(home)


@pytest.fixture
def space(project, monkeypatch) -> Workspace:
    """A finished project, whose files the tests replace by mutated ones and restore."""
    home, workspace = project
    # Only during a test: the tests after it in this process have runs and submissions of their own.
    use_folders(monkeypatch, home)
    return workspace


class Counter:
    """The number of cases, their time and that of the slowest one, in seconds."""

    def __init__(self):
        self.cases, self.seconds, self.slowest = 0, 0.0, 0.0


def read_mutated(name: str, space: Workspace, content: bytes, counter: Counter) -> None:
    """Replace the target's file and read it; any exception but UserError escapes, with the content in its notes."""
    target = TARGETS[name]
    path = target.path(space)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    start = time.perf_counter()
    try:
        with budget(), contextlib.suppress(UserError):
            target.read(space, path)
    except BaseException as escape:
        packed = base64.b64encode(zlib.compress(content, 9)).decode()
        shown = repr(content[:300]) + ("..." if len(content) > 300 else "")
        escape.add_note(f"target {name!r}, a file of {len(content)} bytes: {shown}")
        escape.add_note(f"FUZZ_TARGET='{name}' FUZZ_CONTENT={packed}" if len(packed) < 20_000 else "the file is large")
        raise
    finally:
        seconds = time.perf_counter() - start
        counter.cases, counter.seconds = counter.cases + 1, counter.seconds + seconds
        counter.slowest = max(counter.slowest, seconds)


@contextlib.contextmanager
def restored(target: Target, space: Workspace):
    """Restore the folder's file afterwards; what readers print goes to the null device, that of C libraries too."""
    path = target.path(space)
    before = path.read_bytes()
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with Path(os.devnull).open("w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
        for number in (1, 2):
            os.dup2(null.fileno(), number)
        try:
            yield
        finally:
            # Unlinked first, since the old content may be mapped into memory.
            path.unlink(missing_ok=True)
            path.write_bytes(before)
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "start"), PARTS)
def test_only_user_errors_escape(name, start, space, record_property):
    target, counter = TARGETS[name], Counter()

    @hypothesis.seed(SEED * 1_000_003 + start)
    @hypothesis.settings(
        max_examples=min(MAX_PART, PER_TARGET - start),
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(target.strategy(space))
    def check(content: bytes) -> None:
        read_mutated(name, space, content, counter)

    try:
        with restored(target, space):
            # The first call fills caches and imports modules; it must succeed, so that a case can reach every line.
            target.read(space, target.path(space))
            check()
    finally:
        for key, value in {**vars(counter), "seed": SEED, "target": name}.items():
            record_property(key, value)


@pytest.mark.slow
@pytest.mark.skipif("FUZZ_CONTENT" not in os.environ, reason="runs the case of FUZZ_TARGET and FUZZ_CONTENT")
def test_one_content(space):
    name, packed = os.environ["FUZZ_TARGET"], os.environ["FUZZ_CONTENT"]
    with restored(TARGETS[name], space):
        read_mutated(name, space, zlib.decompress(base64.b64decode(packed)), Counter())
