"""The configuration of an experiment: all sections, checks of combinations of keys, and its hash."""

import hashlib
import json
from pathlib import PurePath
from typing import Any

from pydantic import Field, model_validator

from maskfold.config.choices import dict_names
from maskfold.config.field_types import MAX_SEED, ConfigSection, Int
from maskfold.config.schema import Data, Loss, Mix, Model, Optim, Pseudo, Run

__all__ = ["Config", "ConfigSection", "Data", "Loss", "Mix", "Model", "Optim", "Pseudo", "Run"]


class Config(ConfigSection):
    """All keys of an experiment: `seed` and one attribute per section."""

    seed: Int = Field(
        42, ge=0, le=MAX_SEED, description="seed of the initial weights, the order of photos, augmentation and dropout"
    )
    data: Data = Data()
    model: Model = Model()
    loss: Loss = Loss()
    mix: Mix = Mix()
    optim: Optim = Optim()
    pseudo: Pseudo = Pseudo()
    run: Run = Run()

    @property
    def uses_cached_features(self) -> bool:
        """Whether only the head is trained, on features that are computed once."""
        return self.model.frozen_epochs == "all" and self.model.cache_features

    @model_validator(mode="after")
    def _check_combinations(self) -> "Config":
        cached = self.uses_cached_features
        for wrong, reason in (
            (
                self.loss.age_weight and self.model.head != "factored",
                f"loss.age_weight {self.loss.age_weight} needs model.head factored; the joint head predicts no ages",
            ),
            (
                (self.loss.class_weights != "none" or self.loss.label_smoothing)
                and {self.loss.name, self.loss.plus} <= {None, *dict_names("models/losses.py", "BATCH_LOSSES")},
                f"loss.class_weights and loss.label_smoothing have no effect on {self.loss.name} alone; add loss.plus "
                "cross_entropy",
            ),
            (
                self.loss.class_weights != "none" and self.data.sampling != "all",
                "loss.class_weights and data.sampling balanced both balance the classes; choose one",
            ),
            (
                self.mix.name != "none" and cached,
                f"mix.name {self.mix.name} mixes photos, but model.frozen_epochs all trains on cached features; set "
                "model.cache_features to false",
            ),
            (
                cached and isinstance(self.data.augment, list),
                "data.augment: a list of transforms is not applied to cached features; set model.cache_features to "
                "false",
            ),
        ):
            if wrong:
                raise ValueError(reason)
        return self


# Keys that may change when a run is resumed. Only run.device affects the result, and only its last digits.
_WANDB = tuple(f"run.wandb{key}" for key in ("", "_oof", "_photos", "_project", "_entity", "_tags"))
MAY_CHANGE_ON_RESUME = ("data.num_workers", "run.device", *_WANDB, "run.checkpoint_updates")


# Keys whose values are paths of data. Fingerprints identify the data instead, so data and runs can be moved.
DATA_PATHS = ("data.root", "data.prepared", "data.corrections")


def flatten(content: dict, prefix: str = "") -> dict[str, Any]:
    """Flatten nested sections to dotted keys: {'optim': {'lr': 1}} -> {'optim.lr': 1}."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


KEYS = tuple(flatten(Config().model_dump()))


def fixed_values(config: Config) -> dict[str, Any]:
    """Return {dotted key: JSON value} for the keys that must not change when a run is resumed.

    DATA_PATHS are left out. Other paths are shortened to their last part, because files and folders may be moved.
    """
    flat = flatten(config.model_dump(mode="json"))
    values = {key: value for key, value in flat.items() if key not in MAY_CHANGE_ON_RESUME + DATA_PATHS}
    values["model.weights"] = values["model.weights"] and PurePath(values["model.weights"]).name
    values["pseudo.runs"] = [PurePath(name).name for name in values["pseudo.runs"]]
    prefix, colon, folder = values["model.backbone"].partition(":")
    if prefix == "local-dir":
        values["model.backbone"] = prefix + colon + PurePath(folder).name
    return values


def config_hash(config: Config) -> str:
    """16 hex digits that identify the fixed values of a configuration."""
    return hashlib.sha256(json.dumps(fixed_values(config), sort_keys=True).encode()).hexdigest()[:16]


def selects_on_validation(config: Config) -> bool:
    """Whether a fold's weights depend on its validation scores: best epoch, greedy soup, early stopping, plateau."""
    return config.run.keep in ("best", "soup") or config.optim.early_stop > 0 or config.optim.schedule == "plateau"


def replaced(config: Config, **sections: dict[str, Any]) -> Config:
    """A copy of the configuration with some keys changed: replaced(config, run={'precision': 'fp32'})."""
    changed = {name: getattr(config, name).model_copy(update=keys) for name, keys in sections.items()}
    return config.model_copy(update=changed)
