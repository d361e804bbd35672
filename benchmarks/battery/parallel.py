"""Folds per minute of `--parallel-folds` 1, 2 and 4, on data of the competition's size."""

import statistics
import time

from battery.context import Context
from battery.section_runner import Recorder
from maskfold.loading.store import open_store
from maskfold.training.fit import fit_run
from maskfold.training.fold_job import TrainRequest

# (folds at once, folds to train). One at a time needs no more than two folds for its rate.
CASES, TINY_CASES = ((1, 2), (2, 2), (4, 4)), ((1, 1), (2, 2))


def parallel_folds(context: Context, record: Recorder) -> None:
    """Train resnet18 as its recipe says; the time includes the start of the processes."""
    config, prepared = context.recipe("resnet18", data="large"), context.prepared("large")
    # Built before, because all runs share it.
    open_store(prepared, prepared.images, config.data)
    for at_once, count in TINY_CASES if context.tiny else CASES:
        name, start = f"parallel-{at_once}", time.perf_counter()
        request = TrainRequest(folds=range(count), parallel=at_once, out=context.scratch / name)
        run, _ = fit_run(config, name, request)
        seconds = time.perf_counter() - start
        rates = [
            statistics.median(epoch["images_per_second"] for epoch in run.read_metrics(f"fold{fold}"))
            for fold in range(count)
        ]
        photos = len(prepared.images) * (prepared.num_folds - 1) // prepared.num_folds
        note = f"{at_once * statistics.mean(rates):,.0f} images/s in training together; {config.optim.epochs} epochs "
        note += f"of {photos:,} photos; {seconds:.0f} s in all"
        record.row(f"resnet18, --parallel-folds {at_once}", 60 * count / seconds, "folds/minute", count, note=note)
