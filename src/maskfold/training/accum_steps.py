"""optim.accum_steps auto: find the largest micro-batches that fit into the GPU's memory.

More and more micro-batches are tried, each with real updates of a model with random weights, until the updates fit.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from accelerate import Accelerator

from maskfold.config.experiment import Config, replaced
from maskfold.errors import UserError
from maskfold.labels import NUM_CLASSES
from maskfold.loading.dataset import Batch
from maskfold.models.classifier import Classifier, build_classifier
from maskfold.models.device import Hardware
from maskfold.models.prediction_loop import predict
from maskfold.models.targets import UNKNOWN_AGE
from maskfold.progress import report
from maskfold.training.accelerators import free_memory, make_accelerator, process_state
from maskfold.training.engine import EpochSums, Update, training_step
from maskfold.training.fold_data import TrainingPhotos
from maskfold.training.train_state import make_train_state

# Share of the free memory that training may use. The rest is for fragmentation and the loader's next batch.
USABLE_MEMORY = 0.9
# More than the CUDA context of a process needs, with the kernels of PyTorch and cuDNN: 0.3 to 0.7 GiB.
MAX_CONTEXT_BYTES = 2**30
# The optimiser allocates its state in the first update, so the second one needs the most memory.
NUM_UPDATES = 2
# In fp16 the gradient scaler skips updates until its scale is small enough, so NUM_UPDATES steps may not be enough.
MAX_TRIES = 20


def resolve_accum_steps(config: Config, device: torch.device, num_parallel: int = 1) -> Config:
    """Return the config with a number in optim.accum_steps. The config's precisions must be resolved (not auto).

    On a GPU, the value of `auto` is measured. It is 1 on a CPU, and also with cached features, because training on them
    needs little memory. num_parallel: number of folds that are trained at once and share the GPUs. Raises UserError if
    the memory is too small to train with micro-batches of one photo, or to predict a batch.
    """
    if config.optim.accum_steps != "auto":
        return config
    accum_steps = 1
    if is_measured(config, device):
        with _limited_memory(num_parallel):
            accum_steps = find_accum_steps(config, device)
    return replaced(config, optim={"accum_steps": accum_steps})


def is_measured(config: Config, device: torch.device) -> bool:
    """Whether optim.accum_steps auto is measured; otherwise it is 1."""
    return device.type == "cuda" and not config.uses_cached_features


def find_accum_steps(config: Config, device: torch.device) -> int:
    """The smallest number of equal micro-batches that fit into the device's memory.

    The numbers that divide this process's share of the batch are tried in ascending order. Under torchrun only one
    process calls this function. Raises UserError if the memory is too small to train with micro-batches of one photo,
    or to predict a batch.
    """
    share = -(-config.optim.batch_size // process_state(device).num_processes)
    for accum_steps in (number for number in range(1, share + 1) if share % number == 0):
        if _fits(replaced(config, optim={"accum_steps": accum_steps}), share):
            report(f"optim.accum_steps auto: {accum_steps} (micro-batches of {share // accum_steps} photos)")
            return accum_steps
    height, width = config.data.image_size
    raise UserError(
        f"optim.accum_steps: the GPU has too little memory to train {config.model.backbone} with micro-batches of one "
        f"photo of {height}x{width}; use a smaller data.image_size, model.grad_checkpointing true, or a smaller "
        "model.backbone"
    )


@contextmanager
def _limited_memory(num_parallel: int) -> Iterator[None]:
    """Limit this process to its share of the free GPU memory. num_parallel: number of processes that share all GPUs."""
    free, total = torch.cuda.mem_get_info()
    limit = memory_limit(free, torch.cuda.memory_reserved(), num_parallel, torch.cuda.device_count())
    torch.cuda.set_per_process_memory_fraction(limit / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def memory_limit(free: int, reserved: int, num_parallel: int, num_gpus: int) -> float:
    """The number of bytes that PyTorch may reserve in this process, so that the process uses its share of a GPU.

    free: free bytes of the GPU. reserved: bytes that PyTorch has reserved in this process already; they are not free,
    but the limit includes them. num_parallel: number of folds that are trained at once on num_gpus GPUs.
    """
    per_gpu = -(-num_parallel // num_gpus)
    # Folds that are trained at once have their own processes. The context of this process is not free already.
    contexts = per_gpu * MAX_CONTEXT_BYTES if num_parallel > 1 else 0
    return reserved + USABLE_MEMORY * max(0, free - contexts) / per_gpu


def _fits(config: Config, share: int) -> bool:
    """Whether updates on batches of `share` photos fit into the memory."""
    # Make a new Accelerator for each try, because after an error its gradient scaler may be in the middle of an update.
    accelerator = make_accelerator(config)
    try:
        _make_updates(config, accelerator, share)
    except torch.OutOfMemoryError:
        fits = False
    else:
        fits = True
    # Free memory only after the except clause, because the traceback of the exception keeps tensors alive.
    free_memory(accelerator, compiled=False)
    return fits


def _make_updates(config: Config, accelerator: Accelerator, share: int) -> None:
    """Make NUM_UPDATES updates on random photos, then predict a batch.

    DistributedDataParallel and compilation are not used.
    """
    # Replace the configured loss: losses need nearly no memory, but soft F1 would wait for the other processes.
    loss = {"name": "cross_entropy", "plus": None}
    config = replaced(config, model={"pretrained": False, "weights": None}, loss=loss)
    device, classes = accelerator.device, np.arange(NUM_CLASSES)
    ages, weights = np.full(NUM_CLASSES, UNKNOWN_AGE), np.ones(NUM_CLASSES)
    photos = TrainingPhotos((), classes, ages, weights, train_rows=classes, val_rows=classes[:0])
    classifier = build_classifier(config).to(device)
    state = make_train_state(config, classifier, photos, accelerator)
    # Freeze the backbone only if the last epoch does so too, because training the backbone needs the most memory.
    frozen_epochs = config.model.frozen_epochs
    classifier.freeze_backbone(frozen_epochs == "all" or frozen_epochs >= config.optim.epochs)
    classifier.train()
    # DistributedDataParallel keeps a second copy of the gradients, so reserve memory for it.
    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    second_copy = [torch.empty_like(parameter) for parameter in trained if accelerator.num_processes > 1]
    # With mixing, a batch holds the photos, followed by the partners for mixing.
    num_photos = share if config.mix.name == "none" else 2 * share
    images = torch.randint(0, 256, (num_photos, *config.data.image_size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    labels = torch.arange(num_photos) % NUM_CLASSES
    sums, num_updates = EpochSums.zeros(device), 0
    for step in range(MAX_TRIES):
        training_step(state, Batch(images, labels, labels), Update(1, step, config.optim.batch_size), sums)
        num_updates += not state.optimizer.step_was_skipped
        if num_updates == NUM_UPDATES:
            break
    _predict_batch(config, classifier, device)
    del second_copy


def _predict_batch(config: Config, classifier: Classifier, device: torch.device) -> None:
    """Predict one batch of black photos, of the size that validation uses. Raises UserError if it does not fit."""
    (height, width), batch_size = config.data.image_size, config.optim.batch_size
    photos = torch.zeros((batch_size, 3, height, width), dtype=torch.uint8)
    try:
        hardware = Hardware.of(device, config.run.predict_precision)
        predict([classifier], [(photos, None, torch.arange(batch_size))], hardware)
    except torch.OutOfMemoryError:
        raise UserError(
            f"optim.batch_size: the GPU has too little memory to predict a batch of {batch_size} photos of "
            f"{height}x{width} with {config.model.backbone} (optim.accum_steps splits batches only in training); use a "
            "lower optim.batch_size"
        ) from None
