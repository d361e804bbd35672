"""Correctness of training: an update on the device against the same update on the CPU in fp32."""

import torch

from battery.context import SMALL_RECIPES, Context
from battery.section_runner import Recorder
from battery.training_setup import TrainingSetup
from maskfold.training.engine import EpochSums, Update, training_step
from maskfold.training.train_state import current_weights

# With plain SGD at rate 1 the change of the weights is proportional to the gradient.
SGD = {"optim.name": "sgd", "optim.lr": "1", "optim.weight_decay": "0", "optim.batch_size": "32"}
SGD |= {"optim.accum_steps": "1", "data.num_workers": "0", "model.drop_rate": "0"}
# Largest relative error of the gradient. In fp32 a GPU multiplies in TF32, which has fp16's 10 bits after the point.
# Batch norm makes the errors larger: in bf16 (7 bits) on a CPU they are 0.16 with it and 0.008 with layer norm.
MAX_ERROR = {"fp32": 0.05, "fp16": 0.05, "bf16": 0.3}
MAX_ERROR_LAYER_NORM = 0.02
# fp16's scaler halves its first scale, 65536, until the gradients are finite.
MAX_SKIPPED = 20
# {what: (keys of both devices, keys of the device only)}. Those of the device only do not change the gradient.
OPTIONS: dict[str, tuple[dict, dict]] = {
    "EMA": ({"optim.ema_decay": "0.9"}, {}),
    "half CutMix": ({"mix.name": "half_cutmix", "mix.partner": "old"}, {}),
    "soft F1": ({"loss.name": "soft_f1", "loss.label_smoothing": "0"}, {}),
    "4 micro-batches": ({}, {"optim.accum_steps": "4"}),
    "checkpointing": ({}, {"model.grad_checkpointing": "true"}),
    "soft F1 in 4 micro-batches": (
        {"loss.name": "soft_f1", "loss.label_smoothing": "0"},
        {"optim.accum_steps": "4"},
    ),
}
OPTIONS["all of these"] = tuple(
    {key: value for option in OPTIONS.values() for key, value in option[kind].items()} for kind in (0, 1)
)


def precisions(context: Context, record: Recorder) -> None:
    """The gradient of each small recipe in each precision against the CPU's."""
    for name in SMALL_RECIPES:
        expected, _ = weight_change(context, name, {"run.device": "cpu", "run.precision": "fp32"})
        for precision in context.precisions:
            change, skipped = weight_change(context, name, {"run.precision": precision})
            note = f"the scaler skipped {skipped} updates first" if precision == "fp16" else ""
            _record(record, f"{name} in {precision}", change, expected, MAX_ERROR[precision], note)


def options(context: Context, record: Recorder) -> None:
    """The gradient of convnext_tiny (without batch norm) with each option, in fp32, against the CPU's."""
    for what, (shared, device_only) in OPTIONS.items():
        expected, _ = weight_change(context, "convnext_tiny", shared | {"run.device": "cpu", "run.precision": "fp32"})
        change, _ = weight_change(context, "convnext_tiny", shared | device_only | {"run.precision": "fp32"})
        _record(record, f"convnext_tiny, {what}", change, expected, MAX_ERROR_LAYER_NORM)


def weight_change(context: Context, recipe: str, flags: dict) -> tuple[torch.Tensor, int]:
    """Make one update of a recipe from random weights, with the same weights and photos in each call.

    Returns (change of all parameters, or of their EMA if there is one, float64 [N] on the CPU; updates that the scaler
    skipped before it).
    """
    setup = TrainingSetup(context, context.recipe(recipe, SGD | flags), updates=1)
    [batch] = setup.batches(1)
    before = {name: tensor.detach().clone() for name, tensor in setup.classifier.named_parameters()}
    setup.state.wrapped_model.train()
    sums, skipped = EpochSums.zeros(setup.device), -1
    # The third sum counts the updates whose gradient norm is finite.
    while not sums.values[2]:
        skipped += 1
        if skipped > MAX_SKIPPED:
            raise ArithmeticError(f"{recipe}: the gradient norm was not finite in {skipped} updates")
        training_step(setup.state, batch, Update(setup.epoch, 0, setup.batch_size), sums)
    after = current_weights(setup.classifier, setup.state)
    change = torch.cat([(after[name] - tensor).flatten().double().cpu() for name, tensor in before.items()])
    del before, after
    setup.close()
    return change, skipped


def _record(
    record: Recorder, what: str, change: torch.Tensor, expected: torch.Tensor, limit: float, note: str = ""
) -> None:
    error = float((change - expected).norm() / expected.norm())
    record.row(f"{what}: error of the gradient", error, "of its norm", at_most=limit, note=note)
