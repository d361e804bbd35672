"""Speed of training, prediction and loading of the small recipes, compared with the device alone."""

import statistics
import time
from collections.abc import Callable

import torch
from measure import rate, take_turns
from torch.profiler import ProfilerActivity, profile

from battery.context import SMALL_RECIPES, Context
from battery.recipes import describe
from battery.section_runner import Recorder
from battery.training_setup import WARM_UP, TrainingSetup
from maskfold.loading.dataset import PhotoDataset
from maskfold.loading.photo_loader import PhotoLoader
from maskfold.loading.transforms import make_train_transform
from maskfold.machine_limits import num_cores
from maskfold.models.classifier import build_classifier
from maskfold.models.device import Hardware, check_compiler
from maskfold.models.prediction_loop import predict
from maskfold.models.tta import VIEWS

TRAINING_TARGET, PREDICTION_TARGET = 0.95, 0.90
REPEATS = 3
MODELS, TTA = 5, ("none", "hflip")
WORKERS = (0, 1, 2, 4, 8, 16)
PROFILED_BATCHES = 10


def training(context: Context, record: Recorder) -> None:
    """Training from the real loader against the same updates on random tensors on the device."""
    for name in SMALL_RECIPES:
        setup = TrainingSetup(context, context.recipe(name))
        _training(context, record, setup, name)
        setup.close()


def _training(context: Context, record: Recorder, setup: TrainingSetup, name: str) -> None:
    batch = setup.random_batch()
    updates = setup.updates_in(context.seconds, batch)
    functions = {
        "loader": lambda: rate(lambda: setup.train(setup.batches(updates))),
        "tensors": lambda: rate(lambda: setup.train([batch] * updates)),
        "plain": lambda: rate(lambda: setup.plain_steps(batch, updates)),
    }
    rates = take_turns(functions, REPEATS)
    loader, tensors, plain = (statistics.median(rates[key]) for key in functions)
    low, high = min(rates["loader"]), max(rates["loader"])
    note = f"{loader:,.0f} ({low:,.0f}-{high:,.0f}) of {tensors:,.0f} images/s; {describe(setup.config)}"
    what = f"{name}: training from the loader / on random tensors"
    row = record.row(what, loader / tensors, "", REPEATS, at_least=TRAINING_TARGET, note=note)
    note = f"{tensors:,.0f} of {plain:,.0f} images/s"
    record.row(f"{name}: training step / plain step", tensors / plain, "", REPEATS, note=note)
    if context.tiny or not row.meets_target:
        count = min(PROFILED_BATCHES, updates)
        table = _profile(setup.device, lambda: setup.train(setup.batches(count)))
        record.text(f"Profile: {name}, {count} updates from the loader", table)


def _profile(device: torch.device, work: Callable[[], object]) -> str:
    """A table of the operations of some work, the longest first."""
    is_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * is_gpu]) as profiler:
        work()
    key = "self_device_time_total" if is_gpu else "self_cpu_time_total"
    return profiler.key_averages().table(sort_by=key, row_limit=12, max_name_column_width=50)


def prediction(context: Context, record: Recorder) -> None:
    """Prediction from the real loader against the forward passes alone: five models with hflip, and one model."""
    for name in SMALL_RECIPES:
        setup = TrainingSetup(context, context.recipe(name))
        models = [build_classifier(setup.config).to(setup.device).eval() for _ in range(MODELS)]
        _prediction(context, record, setup, models, f"{name}: prediction with {MODELS} models and hflip", TTA)
        _prediction(context, record, setup, models[:1], f"{name}: prediction with one model", TTA[:1])
        setup.close()


def _prediction(
    context: Context,
    record: Recorder,
    setup: TrainingSetup,
    models: list[torch.nn.Module],
    what: str,
    views: tuple[str, ...],
) -> None:
    """Record the speed of prediction; with several models it has a target, since one waits for each batch."""
    hardware, loader = Hardware.of(setup.device, setup.config.run.predict_precision), setup.data.val_photo_loader
    images = setup.random_batch().images[: setup.batch_size]

    @torch.inference_mode()
    def forward(count: int) -> int:
        with hardware.autocast():
            outputs = [
                model(view) for _ in range(count) for model in models for name in views for view in VIEWS[name](images)
            ]
        outputs[-1].sum().item()
        return count * len(images)

    def from_loader(count: int) -> int:
        loader.batch_sampler.set_epoch(0, len(loader) - count)
        rows, _ = predict(models, loader, hardware, views)
        return len(rows)

    forward(WARM_UP)
    start = time.perf_counter()
    forward(WARM_UP)
    per_batch = (time.perf_counter() - start) / WARM_UP
    count = min(max(WARM_UP, round(context.seconds / 2 / per_batch)), len(loader))
    functions = {"loader": lambda: rate(lambda: from_loader(count)), "forward": lambda: rate(lambda: forward(count))}
    rates = take_turns(functions, REPEATS)
    ours, alone = (statistics.median(rates[key]) for key in functions)
    note = f"{ours:,.0f} of {alone:,.0f} photos/s; {count} batches of {len(images)}"
    target = PREDICTION_TARGET if len(models) > 1 else None
    row = record.row(f"{what} / forward alone", ours / alone, "", REPEATS, at_least=target, note=note)
    if row.meets_target is False:
        count = min(PROFILED_BATCHES, count)
        table = _profile(setup.device, lambda: from_loader(count))
        record.text(f"Profile: {what}, {count} batches from the loader", table)


def loader_by_workers(context: Context, record: Recorder) -> None:
    """Photos per second of the training loader alone, by its number of worker processes."""
    for name in SMALL_RECIPES:
        setup = TrainingSetup(context, context.recipe(name, {"data.num_workers": "0"}))
        photos, sampler = setup.data.photos, setup.data.train_loader.batch_sampler
        dataset = PhotoDataset(photos.stores[0], photos.labels, make_train_transform(setup.config.data), 0)
        for workers in [count for count in WORKERS if count <= num_cores()]:
            with PhotoLoader(dataset, sampler, workers, pin=context.device == "cuda") as loader:
                count = WARM_UP
                # The first pass starts the workers, the second one finds the number of batches to measure.
                for seconds in (0.0, context.seconds / 2, None):
                    sampler.set_epoch(1, len(sampler) - count)
                    speed = rate(lambda loader=loader: sum(len(batch.images) for batch in loader))
                    if seconds:
                        count = min(max(WARM_UP, round(seconds * speed / setup.batch_size)), len(sampler))
            note = f"{describe(setup.config)}; {num_cores()} cores"
            record.row(f"{name}: loader with {workers} workers", speed, "images/s", note=note)
        setup.close()


def compiled(context: Context, record: Recorder) -> None:
    """Training on random tensors with torch.compile against the same without."""
    for name in SMALL_RECIPES:
        speeds, seconds = {}, 0.0
        for compiles in ("false", "true"):
            config = context.recipe(name, {"run.compile": compiles})
            check_compiler(config.run, context.torch_device)
            setup = TrainingSetup(context, config)
            batch = setup.random_batch()
            start = time.perf_counter()
            setup.train([batch])
            seconds = time.perf_counter() - start
            updates = setup.updates_in(context.seconds, batch)
            speeds[compiles] = rate(lambda setup=setup, updates=updates, batch=batch: setup.train([batch] * updates))
            setup.close()
        note = f"{speeds['true']:,.0f} of {speeds['false']:,.0f} images/s; the first update takes {seconds:.0f} s"
        record.row(f"{name}: compiled / not compiled", speeds["true"] / speeds["false"], "", note=note)
