"""What all sections share: the device, the sizes, the folders, and the configurations of the recipes."""

from dataclasses import dataclass
from pathlib import Path

import torch

from maskfold.config.experiment import Config
from maskfold.config.yaml_file import load_config
from maskfold.data.images_table import Prepared, load_prepared
from maskfold.models.device import free_device_memory
from maskfold.places import Places

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL_RECIPES, LARGE_RECIPES = ("resnet18", "convnext_tiny"), ("efficientnet_b4", "swin_large")
# The values of a tiny battery, which runs on a CPU.
TINY = {
    "data.image_size": ["32", "32"],
    "optim.batch_size": "16",
    "optim.epochs": "2",
    "optim.warmup_epochs": "0",
}


@dataclass(frozen=True)
class Context:
    """The setting of a battery.

    device: cuda or cpu. tiny: models and data are tiny, to test the battery itself. scratch: an empty folder for data,
    runs and logs. seconds: about the length of one measurement of a speed. updates: updates of a whole epoch.
    """

    device: str
    tiny: bool
    scratch: Path

    @property
    def seconds(self) -> float:
        return 0.2 if self.tiny else 2.0

    @property
    def updates(self) -> int:
        return 6 if self.tiny else 236

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions of training that the device can have. fp16 needs a GPU."""
        return ("fp32", "bf16", "fp16") if self.device == "cuda" else ("fp32", "bf16")

    def recipes(self) -> list[str]:
        """Names of the recipes in configs/ without the demo: the small ones, the large ones, then the others."""
        first = (*SMALL_RECIPES, *LARGE_RECIPES)
        others = {path.stem for path in CONFIGS.glob("*.yaml")} - {"demo", *first}
        return [*first, *sorted(others)]

    def recipe(self, name: str, flags: dict | None = None, data: str = "data") -> Config:
        """A recipe with random weights and without W&B, on the synthetic people in scratch/<data>."""
        values = {
            "data.root": str(self.scratch / data),
            "data.prepared": str(self.prepared_folder(data)),
            "model.pretrained": "false",
            "run.device": self.device,
            "run.wandb": "disabled",
        }
        if self.tiny:
            values |= TINY | {"model.backbone": "test_resnet" if name == "resnet18" else "test_convnext"}
        return load_config(CONFIGS / f"{name}.yaml", values | (flags or {}))

    def prepared_folder(self, data: str = "data") -> Path:
        return self.scratch / f"prepared-{data}"

    def prepared(self, data: str = "data") -> Prepared:
        return load_prepared(self.prepared_folder(data), Places(self.scratch / data, self.prepared_folder(data)))

    def free(self) -> None:
        """Release the memory of what a part of a section has dropped."""
        free_device_memory(self.torch_device)

    def reset_peak(self) -> None:
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def peak_mb(self) -> float:
        """Largest memory of tensors since reset_peak, in MB; on a CPU 0, because torch does not count it."""
        return torch.cuda.max_memory_allocated() / 2**20 if self.device == "cuda" else 0.0

    def allocated_mb(self) -> float:
        return torch.cuda.memory_allocated() / 2**20 if self.device == "cuda" else 0.0
