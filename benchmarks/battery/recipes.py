"""Memory and speed of the recipes in configs/ at their configured batch sizes."""

import torch
from measure import rate

from battery.context import LARGE_RECIPES, Context
from battery.section_runner import Recorder
from battery.training_setup import TrainingSetup
from maskfold.config.experiment import Config
from maskfold.errors import UserError

UPDATES = 3


def peak_memory(context: Context, record: Recorder) -> None:
    """Peak of the device memory in three updates of each recipe, its whole batches from the real loader."""
    for name in context.recipes():
        config = context.recipe(name, {"data.num_workers": "0"})
        context.reset_peak()
        note = describe(config)
        try:
            setup = TrainingSetup(context, config, UPDATES)
            note = describe(setup.config)
            setup.train(setup.batches(UPDATES))
            setup.close()
            peak = context.peak_mb()
        except torch.OutOfMemoryError:
            peak, note = 0.0, f"{note}; does not fit into the memory"
        except UserError as error:
            # optim.accum_steps auto raises it if the recipe does not fit into the memory.
            peak, note = 0.0, f"{note}; {str(error).splitlines()[0]}"
        record.row(f"{name}: peak of the device memory", peak, "MB", UPDATES, note=note)
        setup = None
        context.free()


def large_speed(context: Context, record: Recorder) -> None:
    """Images/s of the large recipes, from the real loader and on random tensors on the device."""
    for name in LARGE_RECIPES:
        setup = TrainingSetup(context, context.recipe(name))
        batch = setup.random_batch()
        updates = setup.updates_in(context.seconds, batch)
        setup.train(setup.batches(updates))
        from_loader = rate(lambda setup=setup, updates=updates: setup.train(setup.batches(updates)))
        on_tensors = rate(lambda setup=setup, batch=batch, updates=updates: setup.train([batch] * updates))
        note = f"on random tensors {on_tensors:,.0f}; {describe(setup.config)}"
        record.row(f"{name}: training", from_loader, "images/s", note=note)
        setup.close()


def describe(config: Config) -> str:
    """Input size, batch and precision of a configuration."""
    height, width = config.data.image_size
    parts = f" in {config.optim.accum_steps}" if config.optim.accum_steps != 1 else ""
    precision = "" if config.run.precision == "auto" else f", {config.run.precision}"
    return f"{height}x{width}, batch {config.optim.batch_size}{parts}{precision}"
