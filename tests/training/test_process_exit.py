"""However a script ends, its processes end too, the run's lock is free and the exit status is the documented one."""

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, tiny_args
from support import PATIENCE, until

from maskfold.config.experiment import Data
from maskfold.data.images_table import load_prepared
from maskfold.errors import ResourceError
from maskfold.loading.dataset import PhotoDataset
from maskfold.loading.photo_loader import PhotoLoader
from maskfold.loading.sampler import PhotoBatchSampler
from maskfold.loading.store import open_store
from maskfold.loading.transforms import EvalTransform
from maskfold.probabilities import load_predictions

# Run in place of a script: it patches in a failure and then runs the script. Spawned processes import it too.
BREAKING_SCRIPT = """
import os, sys, time
from maskfold.loading.transforms import EvalTransform, TrainTransform
from maskfold.training.fold_trainer import FoldTrainer

def patch(cls, name, change):
    before = getattr(cls, name)
    def call(self, *args, **more):
        change(self, *args)
        return before(self, *args, **more)
    setattr(cls, name, call)

calls = [0]
def fail(self, *args):
    calls[0] += 1
    if calls[0] > 20:
        raise ValueError("a broken transform")

def fail_in_second_epoch(self, step):
    if len(self.history) == 1 and step == 1:
        raise RuntimeError("a broken step")

def wait(self, *args):
    time.sleep(0.02)

way = os.environ["BREAK"]
for cls in (TrainTransform, EvalTransform):
    if way == "worker raises":
        patch(cls, "__call__", fail)
    if way == "slow":
        patch(cls, "__call__", wait)
if way == "parent raises":
    patch(FoldTrainer, "current_lr_factor", fail_in_second_epoch)
if __name__ == "__main__":
    # Not runpy: it would make the script the main module, and spawned processes would import it without the patches.
    sys.argv = sys.argv[1:]
    exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"))
"""


class ScriptProcess:
    """A script in its own process group, and its descendants."""

    def __init__(self, home: Path, words: list, launcher=(), breaks: str | None = None, script=None, **how):
        environ = os.environ | {"BREAK": breaks or "", **how.pop("environ", {})}
        script = script or words[0]
        words = [*launcher, sys.executable, *([script] if script != words[0] else []), *words]
        self.out = home / "out.txt"
        with self.out.open("wb") as out:
            streams = {"stdout": out, "stderr": out} | how
            self.process = subprocess.Popen(list(map(str, words)), cwd=home, env=environ, process_group=0, **streams)
        self.seen: set[int] = set()

    def descendants(self) -> set[int]:
        parents, groups = {}, {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)], groups[int(folder.name)] = int(fields[1]), int(fields[2])
        mine = {self.process.pid, *self.seen} | {pid for pid, group in groups.items() if group == self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
            mine |= more
        self.seen = {pid for pid in mine if pid in parents} - {self.process.pid}
        return self.seen

    def worker_pids(self) -> list[int]:
        """Loader processes: descendants without children, except Python's resource tracker."""
        workers = []
        for pid in self.descendants():
            try:
                words, children = (
                    Path(f"/proc/{pid}/{name}").read_text() for name in ("cmdline", f"task/{pid}/children")
                )
            except OSError:
                continue
            if not children.strip() and "resource_tracker" not in words:
                workers.append(pid)
        return workers

    def wait_until(self, condition) -> None:
        until(lambda: self.process.poll() is not None or condition(), self.text)
        assert self.process.poll() is None, self.text

    def wait_for_exit(self) -> int:
        """Return the exit status; the script and all descendants must have ended within PATIENCE."""
        end = time.monotonic() + PATIENCE
        try:
            while self.process.poll() is None and time.monotonic() < end:
                self.descendants()
                time.sleep(0.05)
            while any(alive(pid) for pid in self.seen) and time.monotonic() < end:
                time.sleep(0.05)
            assert self.process.poll() is not None, f"still running: {self.text}"
            left = [pid for pid in self.seen if alive(pid)]
            assert not left, f"{left} are still running"
            return self.process.returncode
        finally:
            for pid in (self.process.pid, *self.seen):
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)

    @property
    def text(self) -> str:
        return self.out.read_text(errors="replace")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_free(folder: Path) -> bool:
    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.fixture
def home(synthetic, trained, tmp_path) -> Path:
    """A folder with prepared data and a finished run."""
    shutil.copytree(trained.prepared, tmp_path / "p")
    run = Path(shutil.copytree(trained.run.folder, tmp_path / "runs" / "done"))
    for path in run.glob("*-*.npz"):
        path.unlink()
    return tmp_path


def command(verb: str, synthetic: Path, home: Path, epochs: int = 400) -> list:
    """Path and arguments of a script that uses two loader processes."""
    if verb == "submit":
        config = home / "runs" / "done" / "config.yaml"
        config.write_text(config.read_text().replace("num_workers: auto", "num_workers: 2"))
        path = config.with_name("provenance.json")
        from maskfold.fileio import sha256

        path.write_text(json.dumps(json.loads(path.read_text()) | {"config_sha256": sha256(config)}))
        return [ROOT / "scripts" / "submit.py", "done"]
    more = ["--parallel-folds", 2] if verb == "parallel" else []
    args = tiny_args(synthetic, "--data.prepared", home / "p", "--data.num_workers", 2, "--optim.epochs", epochs, *more)
    return [ROOT / "scripts" / "train.py", *args]


def breaking_script(home: Path) -> Path:
    path = home / "breaking.py"
    path.write_text(BREAKING_SCRIPT)
    return path


def is_running(verb: str, home: Path, process: ScriptProcess):
    """A function that returns whether each trained fold has a checkpoint, or submit has loader processes."""
    if verb == "submit":
        return lambda: len(process.worker_pids()) >= 2
    folds = [home / "runs" / "demo" / f"fold{fold}" for fold in ((0, 1) if verb == "parallel" else (0,))]
    return lambda: all((fold / "state" / "last.pt").exists() for fold in folds)


def assert_one_message(text: str, *parts: str) -> None:
    assert text.count("error:") == 1, text
    assert "Traceback" not in text
    for part in parts:
        assert part in text, text


VERBS = ["train", pytest.param("parallel", marks=pytest.mark.slow), pytest.param("submit", marks=pytest.mark.slow)]


@pytest.mark.parametrize("verb", VERBS)
def test_a_killed_worker(synthetic, home, verb):
    # Short, since the paths of sockets in it are limited.
    temporary = Path(tempfile.mkdtemp(dir="/tmp"))
    process = ScriptProcess(
        home,
        command(verb, synthetic, home),
        breaks="slow" if verb == "submit" else "",
        script=breaking_script(home),
        environ={"TMPDIR": str(temporary)},
    )
    process.wait_until(is_running(verb, home, process))
    os.kill(process.worker_pids()[0], signal.SIGKILL)
    assert process.wait_for_exit() == 2, process.text
    assert_one_message(process.text, "--data.num_workers", "signal 9")
    # Raises OSError if a file was left.
    temporary.rmdir()
    if verb != "submit":
        assert is_free(home / "runs" / "demo")
        assert is_free(home / "runs" / "demo" / "fold0")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "parallel", "submit"])
@pytest.mark.parametrize("way", ["worker raises", "parent raises"])
def test_an_internal_error(synthetic, home, verb, way):
    if (verb, way) == ("submit", "parent raises"):
        pytest.skip("submit has no training step")
    process = ScriptProcess(home, command(verb, synthetic, home), breaks=way, script=breaking_script(home))
    process.wait_until(lambda: "a broken" in process.text)
    assert process.wait_for_exit() == 1, process.text
    assert "a broken transform" in process.text or "a broken step" in process.text
    assert verb == "submit" or is_free(home / "runs" / "demo")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "parallel", "submit"])
def test_a_closed_pipe_does_not_change_the_status(synthetic, home, verb):
    """`train ... 2>&1 | tee log` after tee has ended: training continues, and a signal still saves."""
    read, write = os.pipe()
    process = ScriptProcess(home, command(verb, synthetic, home), stdout=write, stderr=write)
    os.close(write)
    process.wait_until(is_running(verb, home, process))
    os.close(read)
    if verb == "submit":
        assert process.wait_for_exit() == 0
        assert (home / "submissions" / "done.csv").exists()
        return
    time.sleep(1)
    os.killpg(process.process.pid, signal.SIGINT)
    assert process.wait_for_exit() == 130, process.text
    assert is_free(home / "runs" / "demo")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "parallel", "submit"])
def test_closed_descriptors(synthetic, home, verb):
    """Started without stdin, stdout and stderr, as some schedulers do: other files must not get their descriptors."""
    launcher = ("sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-')
    process = ScriptProcess(home, command(verb, synthetic, home, epochs=2), launcher=launcher)
    assert process.wait_for_exit() == 0
    assert process.text == ""


@pytest.mark.parametrize("verb", ["train", "parallel", "submit"])
@pytest.mark.parametrize(
    "files",
    [
        pytest.param(64, marks=pytest.mark.slow),
        # Fewer descriptors run out at other places; the message is the same.
        pytest.param(40, marks=pytest.mark.long),
        pytest.param(24, marks=pytest.mark.long),
    ],
)
def test_few_open_files(synthetic, home, verb, files):
    """64 suffice; below, the message says how to raise the limit."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    process = ScriptProcess(home, command(verb, synthetic, home, epochs=2), preexec_fn=limit)
    status = process.wait_for_exit()
    assert status in ((0,) if files == 64 else (0, 2)), process.text
    if status == 2:
        assert_one_message(process.text, "ulimit -n")
    assert not (home / "runs" / "demo").exists() or is_free(home / "runs" / "demo")


@pytest.mark.skipif(os.geteuid() != 0, reason="a tmpfs is mounted by root only")
@pytest.mark.parametrize("verb", ["train", "parallel", "submit"])
@pytest.mark.parametrize(
    "size", [pytest.param("64k", marks=pytest.mark.slow), pytest.param("16k", marks=pytest.mark.long)]
)
def test_small_shared_memory(synthetic, home, verb, size):
    mount = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$0" "$@"'
    launcher = ("unshare", "-m", "sh", "-c", mount)
    if subprocess.run([*launcher, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here")
    process = ScriptProcess(home, command(verb, synthetic, home, epochs=2), launcher=launcher)
    assert process.wait_for_exit() == 2, process.text
    assert_one_message(process.text, "/dev/shm", "num_workers")
    assert verb == "submit" or is_free(home / "runs" / "demo")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_second_signal_ends_at_once_and_the_next_command_resumes(synthetic, home, workers):
    args = [*command("train", synthetic, home), "--data.num_workers", workers, "--run.checkpoint_updates", 1]
    process = ScriptProcess(home, args, breaks="slow", script=breaking_script(home))
    process.wait_until(is_running("train", home, process))
    process.process.send_signal(signal.SIGTERM)
    process.process.send_signal(signal.SIGINT)
    assert process.wait_for_exit() in (130, 143)
    assert is_free(home / "runs" / "demo")
    assert "Traceback" not in process.text
    # Under nohup the tests, and so their child processes, ignore SIGHUP.
    process = ScriptProcess(home, args, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    process.wait_until(lambda: "after epoch" in process.text)
    process.process.send_signal(signal.SIGHUP)
    assert process.wait_for_exit() == 129, process.text


@pytest.mark.slow
def test_updates_before_a_killed_worker_are_saved(synthetic, home):
    """A resumed run ends with the same bits as an unbroken one."""
    more = ["--optim.epochs", 2, "--optim.batch_size", 4, "--folds", 0]
    whole = ScriptProcess(home, [*command("train", synthetic, home), *more, "--name", "whole"])
    assert whole.wait_for_exit() == 0, whole.text
    args = [*command("train", synthetic, home), *more]
    process = ScriptProcess(home, args, breaks="slow", script=breaking_script(home))
    process.wait_until(is_running("train", home, process))
    os.kill(process.worker_pids()[0], signal.SIGKILL)
    assert process.wait_for_exit() == 2, process.text
    again = ScriptProcess(home, args)
    assert again.wait_for_exit() == 0, again.text
    assert "after epoch 1" in again.text
    one, other = (load_predictions(home / "runs" / name / "oof.npz", True) for name in ("whole", "demo"))
    assert np.array_equal(one.probs, other.probs)


def test_a_forked_child_does_not_hold_the_lock(tmp_path):
    from maskfold.locks import locked

    read, write = os.pipe()
    with locked(tmp_path):
        child = os.fork()
        if not child:
            os.write(write, b"forked")
            time.sleep(PATIENCE)
            os._exit(0)
        os.read(read, 6)
    try:
        assert is_free(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.slow
def test_an_unclosed_loader_ends_with_its_process(trained, tmp_path):
    """As in a notebook: without atexit Python would wait forever for workers that ignore SIGTERM."""
    code = """
import sys
import numpy as np
from maskfold.config.experiment import Data
from maskfold.data.images_table import load_prepared
from maskfold.loading.dataset import PhotoDataset
from maskfold.loading.photo_loader import PhotoLoader
from maskfold.loading.sampler import PhotoBatchSampler
from maskfold.loading.store import open_store
from maskfold.loading.transforms import EvalTransform
from pathlib import Path
prepared, data = load_prepared(Path(sys.argv[1])), Data(image_size=(32, 32))
dataset = PhotoDataset(open_store(prepared, prepared.images, data), None, EvalTransform(data))
batches = iter(PhotoLoader(dataset, PhotoBatchSampler(np.arange(8), 4, shuffle=False), 2, False))
next(batches)
"""
    (tmp_path / "unclosed.py").write_text(code)
    process = ScriptProcess(tmp_path, [tmp_path / "unclosed.py", trained.prepared])
    assert process.wait_for_exit() == 0, process.text


def test_a_killed_worker_that_still_counts_as_alive(trained, monkeypatch):
    """A killed process closes its sockets first, so reading from it fails while it still counts as alive."""
    prepared, data = load_prepared(trained.prepared), Data(image_size=(32, 32))
    dataset = PhotoDataset(open_store(prepared, prepared.images, data), None, EvalTransform(data))
    with PhotoLoader(dataset, PhotoBatchSampler(np.arange(8), 2, shuffle=False), 1, False) as loader:
        batches = iter(loader)
        next(batches)
        [worker] = loader._iterator._workers

        def reset(self):
            threading.Timer(0.2, os.kill, (worker.pid, signal.SIGKILL)).start()
            raise ConnectionResetError

        monkeypatch.setattr(type(loader._iterator), "__next__", reset)
        with pytest.raises(ResourceError, match="signal 9"):
            next(batches)
