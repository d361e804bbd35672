"""The sections in the order of their worth, with their budgets, and the run through them."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from battery.context import Context
from battery.machine import BAD_FORK, describe_machine
from battery.packages import missing_optional
from battery.parallel import parallel_folds
from battery.people import make_data
from battery.recipes import large_speed, peak_memory
from battery.results import Results, SectionResult
from battery.runs import memory_by_fold, predictions, resume
from battery.section_runner import Section, run_section
from battery.speed import compiled, loader_by_workers, prediction, training
from battery.updates import options, precisions
from maskfold.errors import UserError

# A section is not started with less time than this.
MIN_SECONDS = 8
MACHINE_SECONDS = 60
# fork comes first, because nothing is imported again. It fails where a library has used the GPU when it was imported.
START_METHODS = ("fork", "spawn")
NEEDS = (
    "the battery needs a data-centre GPU (24 GB for all recipes), its driver, and torch built for it; --device cpu "
    "--tiny tests the battery itself"
)


class Budgeted(NamedTuple):
    """A section and its budget in seconds."""

    run: Section
    seconds: float


# Without the data nothing else can run. The budgets are limits for a battery of MINUTES, and grow with its time;
# together they are longer.
DATA, MINUTES = "data", 8.0
SECTIONS = {
    DATA: Budgeted(make_data, 60),
    "updates": Budgeted(precisions, 50),
    "predictions": Budgeted(predictions, 40),
    "training": Budgeted(training, 75),
    "recipe-memory": Budgeted(peak_memory, 110),
    "options": Budgeted(options, 45),
    "resume": Budgeted(resume, 60),
    "prediction": Budgeted(prediction, 60),
    "fold-memory": Budgeted(memory_by_fold, 40),
    "parallel-folds": Budgeted(parallel_folds, 110),
    "large-recipes": Budgeted(large_speed, 60),
    "loader": Budgeted(loader_by_workers, 50),
    "compile": Budgeted(compiled, 110),
}
# torch.compile of tiny models takes as long as that of large ones.
NOT_TINY = ("compile",)


def default_sections(tiny: bool) -> list[str]:
    return [name for name in SECTIONS if not (tiny and name in NOT_TINY)]


def run_battery(context: Context, names: Sequence[str], seconds: float, path: Path) -> Results:
    """Run the sections within `seconds`, and write the results to `path` as they come.

    Raises UserError without a GPU that works.
    """
    deadline = time.monotonic() + seconds
    for start_method in START_METHODS:
        probe = SectionResult("machine", min(MACHINE_SECONDS, seconds))
        run_section(describe_machine, context, probe, lambda: None, start_method)
        if BAD_FORK not in probe.texts:
            break
    if probe.status != "done":
        raise UserError(f"benchmarks/gpu.py: the GPU can't be used ({probe.error.splitlines()[0]}); {NEEDS}")
    results = Results(path, probe.texts, missing_optional())
    scale = seconds / (60 * MINUTES)
    results.sections = [
        SectionResult(name, scale * section.seconds) for name, section in SECTIONS.items() if name in {DATA, *names}
    ]
    results.write()
    for result in results.sections:
        left = deadline - time.monotonic()
        if left < MIN_SECONDS or (result.name != DATA and results.sections[0].status != "done"):
            result.error = "no time was left" if left < MIN_SECONDS else "it needs the data"
            continue
        result.budget = min(result.budget, left)
        print(f"{result.name} (at most {result.budget:.0f} s)", file=sys.stderr, flush=True)
        run_section(SECTIONS[result.name].run, context, result, results.write, start_method)
        outcome = result.error.splitlines()[0] if result.error else f"{len(result.rows)} values"
        print(f"  {result.status} in {result.seconds:.0f} s: {outcome}", file=sys.stderr, flush=True)
    results.write()
    return results
