"""An experiment: its sections put together, what makes two of them the same, and what does not go together."""

import hashlib
import json
from typing import Any

from pydantic import Field, model_validator

from maskfold.config.schema import MOST_SEED, Data, Int, Loss, Mix, Model, Optim, Pseudo, Run, Section

__all__ = ["Config", "Data", "Loss", "Mix", "Model", "Optim", "Pseudo", "Run", "Section"]


class Config(Section):
    seed: Int = Field(42, ge=0, le=MOST_SEED, description="seeds weights, order, augmentation and dropout")
    data: Data = Data()
    model: Model = Model()
    loss: Loss = Loss()
    mix: Mix = Mix()
    optim: Optim = Optim()
    pseudo: Pseudo = Pseudo()
    run: Run = Run()

    @model_validator(mode="after")
    def _go_together(self) -> "Config":
        cached = self.model.frozen_epochs == "all" and self.model.cache_features
        for wrong, reason in (
            (
                self.loss.age_weight and self.model.head != "factored",
                f"loss.age_weight {self.loss.age_weight} needs model.head factored: the joint head has no ages",
            ),
            (
                {self.loss.name, self.loss.plus} <= {"soft_f1", None}
                and (self.loss.class_weights != "none" or self.loss.label_smoothing),
                "loss.class_weights and loss.label_smoothing do nothing for soft_f1 alone; add loss.plus cross_entropy",
            ),
            (
                self.loss.class_weights != "none" and self.data.sampling != "all",
                "loss.class_weights and data.sampling balanced both even out the classes; choose one",
            ),
            (
                self.mix.name != "none" and cached,
                f"mix.name {self.mix.name} mixes photos, but model.frozen_epochs all trains on cached features; set "
                "model.cache_features false",
            ),
            (
                cached and isinstance(self.data.augment, list),
                "data.augment: a list of transforms never meets cached features; set model.cache_features false",
            ),
        ):
            if wrong:
                raise ValueError(reason)
        return self


# What may differ between two starts of one run: it changes no number.
_WANDB = tuple(f"run.wandb{key}" for key in ("", "_oof", "_photos", "_project", "_entity", "_tags"))
NOT_COMPARED = ("data.num_workers", "run.device", *_WANDB, "run.checkpoint_updates")


def flatten(content: dict, prefix: str = "") -> dict[str, Any]:
    """{'optim': {'lr': 1}} -> {'optim.lr': 1}."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


KEYS = tuple(flatten(Config().model_dump()))


def compared(config: Config) -> dict[str, Any]:
    """The keys that make a run what it is, dotted, as JSON values."""
    flat = flatten(config.model_dump(mode="json"))
    return {key: value for key, value in flat.items() if key not in NOT_COMPARED}


def config_hash(config: Config) -> str:
    return hashlib.sha256(json.dumps(compared(config), sort_keys=True).encode()).hexdigest()[:16]


def selects_on_validation(config: Config) -> bool:
    """Whether an option looks at the fold it is scored on: best epoch, greedy soup, early stopping, plateau."""
    return config.run.keep in ("best", "soup") or config.optim.early_stop > 0 or config.optim.schedule == "plateau"


def replaced(config: Config, **sections: dict[str, Any]) -> Config:
    """The config with some keys changed: replaced(config, run={'precision': 'fp32'})."""
    changed = {name: getattr(config, name).model_copy(update=keys) for name, keys in sections.items()}
    return config.model_copy(update=changed)
