"""The sections of an experiment: every key with its default, its bounds and its meaning."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _no_bool(value: Any) -> Any:
    # pydantic reads `true` as 1; a learning rate of `yes` is a slip.
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


Int = Annotated[int, BeforeValidator(_no_bool)]
Float = Annotated[float, BeforeValidator(_no_bool)]
Pixels = Annotated[int, BeforeValidator(_no_bool), Field(ge=16, le=4096)]


MOST_SEED = 2**32 - 1
Preset = Literal["none", "light", "strong", "randaugment"]
PRESETS = get_args(Preset)


def _preset_or_list(value: Any) -> Any:
    if not isinstance(value, list) and value not in PRESETS:
        raise ValueError(f"{', '.join(PRESETS)} or a list of albumentations transforms is expected")
    return value


class Section(BaseModel):
    """Unknown keys are refused, values can't change, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Data(Section):
    root: Path | None = Field(None, description="raw data folder; without it SM_CHANNEL_TRAIN and SM_CHANNEL_EVAL")
    prepared: Path | None = Field(None, description="prepared folder; without it data/prepared/<name of root>")
    folds: Int = Field(5, ge=2, le=1000, description="folds over people, where none are drawn yet")
    fold_seed: Int = Field(
        42, ge=0, le=MOST_SEED, description="shuffles people into folds, used where there is no folds.csv yet"
    )
    image_size: tuple[Pixels, Pixels] = Field((128, 96), description="height and width that the backbone sees")
    crop: Literal["none", "center", "face"] = Field(
        "center", description="what is cut out of a photo before resizing; face: around the face, where one is found"
    )
    crop_size: tuple[Pixels, Pixels] = Field((384, 288), description="height and width of the centre crop")
    face_margin: Float = Field(0.25, ge=0, le=4, description="crop face: room above and below, in faces' heights")
    augment: Annotated[Preset | list[Any], BeforeValidator(_preset_or_list)] = Field(
        "light",
        description=f"training augmentation: {', '.join(PRESETS)}, or in the file a list of albumentations transforms",
    )
    randaugment_ops: Int = Field(2, ge=1, le=9, description="augment randaugment: operations a photo")
    randaugment_magnitude: Float = Field(0.5, gt=0, le=1, description="augment randaugment: most strength of one")
    sampling: Literal["all", "balanced"] = Field(
        "all", description="an epoch's photos: all once, or as many, but of every class alike often"
    )
    num_workers: Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=64)] | Literal["auto"] = Field(
        "auto", description="loader processes; auto: 0 beside a CPU model, up to 8 beside a GPU; changes no number"
    )
    corrections: Path | None = Field(None, description="CSV of label corrections, applied when the data is prepared")


class Model(Section):
    backbone: str = Field("resnet18", description="any timm model name, hf-hub:OWNER/NAME or local-dir:FOLDER")
    pretrained: bool = Field(False, description="start from timm's weights (downloads them)")
    weights: Path | None = Field(
        None, description="file of weights (safetensors, .pth, .bin) to start from; overrides pretrained"
    )
    head: Literal["joint", "factored"] = Field(
        "joint", description="joint: one layer of 18 logits; factored: mask x gender x a distribution over ages"
    )
    age_bin_years: Int = Field(
        1, ge=1, le=30, description="head factored: years a bin of the ages 18 to 60+; 30 leaves the three groups"
    )
    head_init: Literal["default", "zero"] = Field("default", description="zero: a head that begins undecided")
    drop_rate: Float = Field(0.0, ge=0, lt=1, description="dropout before the head")
    frozen_epochs: Annotated[int, BeforeValidator(_no_bool), Field(ge=0)] | Literal["all"] = Field(
        0, description="epochs that train the head alone; all: the backbone's features are computed once per view"
    )
    cache_features: bool = Field(True, description="with frozen_epochs all: false computes features anew each epoch")
    grad_checkpointing: bool = Field(False, description="recompute activations backward: less memory, more time")


LossName = Literal["cross_entropy", "focal", "soft_f1"]


class Loss(Section):
    name: LossName = Field(
        "cross_entropy", description="loss on log-probabilities; soft_f1: 1 - macro F1 of a batch's probabilities"
    )
    plus: LossName | None = Field(None, description="a second loss, added with plus_weight")
    plus_weight: Float = Field(1.0, gt=0, description="weight of plus beside name's 1")
    gamma: Float = Field(2.0, ge=0, description="focusing of the focal loss; 0 is cross entropy")
    label_smoothing: Float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")
    class_weights: Literal["none", "inverse", "effective"] = Field(
        "none", description="by 1 / class count, or 1 / effective number; mean 1 over the training photos"
    )
    effective_beta: Float = Field(0.999, gt=0, lt=1, description="class_weights effective: nearer 1 weights more")
    age_weight: Float = Field(0.0, ge=0, description="head factored: weight of the age distribution's cross entropy")
    age_sigma: Float = Field(2.0, ge=0, le=20, description="years of the Gaussian around the true age; 0 is its bin")


class Mix(Section):
    name: Literal["none", "mixup", "cutmix", "half_cutmix"] = Field(
        "none", description="mixing of each training photo with a partner; half_cutmix pastes half of it"
    )
    alpha: Float = Field(1.0, gt=0, description="mixup, cutmix: the share kept is drawn from Beta(alpha, alpha)")
    halves: Literal["left_right", "upper_lower", "both"] = Field(
        "both", description="half_cutmix: which halves are pasted"
    )
    partner: Literal["any", "same", "old"] = Field(
        "any", description="partner: any training photo, one of the same class, or one of a person of 60 and more"
    )
    clean: Float = Field(0.0, ge=0, lt=1, description="share of batches left unmixed")


class Pseudo(Section):
    runs: tuple[str, ...] = Field(
        (), description="finished runs on the same folds, whose fold-k models label eval photos for fold k's training"
    )
    threshold: Float = Field(0.9, ge=0, lt=1, description="least probability of an eval photo that joins")
    weight: Float = Field(0.5, gt=0, le=1, description="weight of such a photo in the loss; a training photo has 1")
    views: tuple[str, ...] = Field(("none", "hflip"), min_length=1, description="views whose mean probability counts")


class Optim(Section):
    name: str = Field("adamw", description="any timm optimiser: adamw, sgd, lion, ...")
    lr: Float = Field(1e-3, gt=0, description="peak learning rate of the backbone")
    head_lr: Annotated[float, BeforeValidator(_no_bool), Field(gt=0)] | None = Field(
        None, description="peak learning rate of the head; without it lr"
    )
    layer_decay: Float = Field(1.0, gt=0, le=1, description="factor on the learning rate per layer, from the head down")
    weight_decay: Float = Field(0.05, ge=0, description="decoupled weight decay; not on biases and norms")
    epochs: Int = Field(5, ge=1, le=10_000, description="passes over the training photos")
    warmup_epochs: Float = Field(0.5, ge=0, description="linear warm-up, in epochs, a fraction allowed")
    batch_size: Int = Field(64, ge=1, le=1_000_000, description="photos per optimiser update")
    accum_steps: Int = Field(
        1,
        ge=1,
        description="parts of a batch, to fit memory; same gradient but for batch norm",
    )
    clip_norm: Float = Field(0.0, ge=0, description="bound on the gradient's norm; 0 is none")
    ema_decay: Float = Field(
        0.0, ge=0, lt=1, description="moving average of the weights, validated and saved; 0 is none"
    )
    schedule: Literal["cosine", "constant", "step", "plateau"] = Field(
        "cosine", description="learning rate after the warm-up; plateau looks at the fold's own macro F1"
    )
    schedule_by: Literal["update", "epoch"] = Field("update", description="when warm-up, cosine and step move the rate")
    step_epochs: Float = Field(20.0, gt=0, description="step: epochs between two falls")
    step_gamma: Float = Field(0.5, gt=0, lt=1, description="step and plateau: factor of a fall")
    plateau_patience: Int = Field(2, ge=0, description="plateau: epochs without a better macro F1 before a fall")
    early_stop: Int = Field(0, ge=0, description="epochs without a better macro F1 before the fold ends; 0 is never")

    @model_validator(mode="after")
    def _consistent(self) -> "Optim":
        if self.accum_steps > self.batch_size:
            raise ValueError(f"accum_steps {self.accum_steps} is more than batch_size {self.batch_size}")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} leaves nothing of epochs {self.epochs}")
        return self


# W&B's rule for the name of a project.
WandbName = Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


class Run(Section):
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU where there is one")
    precision: Precision = Field(
        "auto", description="of training; auto: fp32 on a CPU, on a GPU bf16 from compute capability 8.0, else fp16"
    )
    predict_precision: Precision = Field(
        "auto",
        description="of predictions and cached features; auto: as precision, but bf16 on a CPU with bf16 instructions",
    )
    compile: bool = Field(False, description="torch.compile the model: a slow first step, then quicker ones")
    checkpoint_updates: Int = Field(0, ge=0, description="a checkpoint every so many updates too; 0: each epoch alone")
    wandb: Literal["auto", "online", "offline", "disabled"] = Field(
        "auto", description="Weights & Biases; auto: WANDB_MODE, else online where there is a key, else offline"
    )
    wandb_oof: bool = Field(
        False, description="send W&B each fold's oof.npz as an artifact, with its image ids and person ids"
    )
    wandb_photos: bool = Field(False, description="send W&B the photos of the worst mistakes, with their image ids")
    wandb_project: WandbName | None = Field(None, description="W&B project; none: WANDB_PROJECT, else maskfold")
    wandb_entity: WandbName | None = Field(None, description="W&B user or team; none: WANDB_ENTITY, else your default")
    wandb_tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        (), description="tags of the W&B runs; without them the variable WANDB_TAGS, separated by commas"
    )
    keep: Literal["last", "best", "mean", "soup"] = Field(
        "last",
        description="weights saved: the last epoch's, the best's, the mean of the last keep_epochs, or a greedy soup "
        "of them; best and soup are selected on the fold's own validation",
    )
    keep_epochs: Int = Field(3, ge=1, description="keep mean and soup: how many of the last epochs")
