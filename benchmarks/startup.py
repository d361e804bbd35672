"""CPU seconds of each command up to its first useful output, compared with those of `import torch`."""

import os
import resource
import subprocess
import sys
from pathlib import Path

from measure import Result, compare_medians, take_turns

from maskfold.synthetic.demo_data import make_demo

ROOT = Path(__file__).parent.parent
PEOPLE, EVAL_PEOPLE = 30, 10
# {name of the result: the command that has nothing to compute, or stops after its first update}.
FINISHED = {
    "help": ("train", "--help"),
    "wrong_argument": ("train", "--no-such-flag"),
    "listing": ("clean",),
    "leaderboard": ("leaderboard",),
    "unchanged_prepare": ("prepare", "--data", "raw"),
    "finished_train": ("train", "CONFIG"),
    "cached_submit": ("submit", "runs/demo", "--out", "demo.csv"),
    "finished_report": ("report", "runs/demo"),
    "finished_pipeline": ("pipeline", "CONFIG"),
    "evaluate": ("evaluate", "runs/demo"),
    # A time limit that is over at once: training saves and ends after its first update.
    "first_update": ("train", "CONFIG", "--name", "first", "--fresh", "--stop-after", "1s"),
}
STATUS = {"wrong_argument": 2}


def measure(data: Path, scratch: Path, backbone: str, repeats: int) -> dict[str, Result]:
    """data and backbone are not used: a small run of the demo shows what a command needs besides its work."""
    home = scratch / "startup"
    make_demo(home / "raw", PEOPLE, EVAL_PEOPLE, seed=0)
    config = [str(ROOT / "configs" / "demo.yaml"), "--data.root", "raw", "--data.folds", "2", "--optim.epochs", "1"]
    config += ["--optim.warmup_epochs", "0", "--run.wandb", "disabled"]

    def cpu_seconds(command: list[str], status: int = 0) -> float:
        """CPU seconds of a process and of those that it started."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SM_")}
        done = subprocess.run([sys.executable, *command], cwd=home, env=environ, capture_output=True, text=True)
        if done.returncode != status:
            raise RuntimeError(f"{command}: status {done.returncode}: {done.stderr}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)

    def command_of(words: tuple[str, ...]) -> list[str]:
        script, *rest = words
        flags = [word for each in rest for word in (config if each == "CONFIG" else [each])]
        return [str(ROOT / "scripts" / f"{script}.py"), *flags]

    # Makes the run, the submission and the report that the commands find.
    for name in ("finished_train", "cached_submit", "finished_report", "finished_pipeline"):
        cpu_seconds(command_of(FINISHED[name]))
    functions = {
        name: lambda name=name, words=words: cpu_seconds(command_of(words), STATUS.get(name, 0))
        for name, words in FINISHED.items()
    }
    # Nearly all commands have just run, and CPU seconds differ little from turn to turn.
    values = take_turns(functions | {"torch": lambda: cpu_seconds(["-c", "import torch"])}, repeats, warm_up=False)
    results = {}
    for name in FINISHED:
        results |= compare_medians(values, {f"{name}_vs_import_torch": "torch"}, "CPU s", ours=name)
    return results
