"""The sections of a configuration: every key with its default, its bounds and its meaning."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from maskfold.config.choices import Choice
from maskfold.config.field_types import MAX_SEED, Augment, ConfigSection, File, Float, Int, NoBool, Pixels, WandbName

LossName = Annotated[str, Choice("models/losses.py", "PHOTO_LOSSES", "BATCH_LOSSES")]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


class Data(ConfigSection):
    root: File | None = Field(None, description="raw data folder; none: from SM_CHANNEL_TRAIN and SM_CHANNEL_EVAL")
    prepared: File | None = Field(None, description="prepared folder; none: data/prepared/<name of root>")
    folds: Int = Field(
        5, ge=2, le=1000, description="number of folds; a person's photos are in one fold; ignored if folds.csv exists"
    )
    fold_seed: Int = Field(
        42, ge=0, le=MAX_SEED, description="random seed that assigns people to folds; ignored if folds.csv exists"
    )
    image_size: tuple[Pixels, Pixels] = Field((128, 96), description="height and width of the model's input, in pixels")
    crop: Annotated[str, Choice("loading/crops.py", "CROPS")] = Field(
        "center", description="crop before resizing; center: of crop_size; face: around the face, or center without one"
    )
    crop_size: tuple[Pixels, Pixels] = Field((384, 288), description="height and width of the centre crop, in pixels")
    face_margin: Float = Field(
        0.25, ge=0, le=4, description="with crop face: margin above and below the face, as a multiple of its height"
    )
    decode: Literal["full", "reduced"] = Field("full", description="reduced: shrink JPEGs while decoding; faster")
    augment: Augment = Field(
        "light",
        description="training augmentation: a preset, none, or (only in YAML) a list of albumentations transforms",
    )
    randaugment_ops: Int = Field(2, ge=1, le=9, description="with augment randaugment: number of operations per photo")
    randaugment_magnitude: Float = Field(0.5, gt=0, le=1, description="with augment randaugment: maximum strength")
    sampling: Annotated[str, Choice("loading/sampler.py", "SAMPLINGS")] = Field(
        "all",
        description="photos of an epoch; all: every photo once; balanced: the same number of photos, equally many of "
        "each class",
    )
    num_workers: Annotated[int, NoBool, Field(ge=0, le=64)] | Literal["auto"] = Field(
        "auto", description="number of loader processes (no effect on results); auto: 0 on a CPU, up to 8 with a GPU"
    )
    corrections: File | None = Field(None, description="CSV of label corrections, applied when the data is prepared")


class Model(ConfigSection):
    backbone: str = Field("resnet18", description="name of a timm model, hf-hub:OWNER/NAME or local-dir:FOLDER")
    pretrained: bool = Field(False, description="start from timm's pretrained weights, which are downloaded")
    weights: File | None = Field(
        None, description="file of backbone weights (safetensors, .pth, .bin) to start from; overrides pretrained"
    )
    head: Annotated[str, Choice("models/heads.py", "HEADS")] = Field(
        "joint", description="joint: one layer with 18 logits; factored: separate logits for mask, gender and age bins"
    )
    age_bin_years: Int = Field(
        1, ge=1, le=30, description="with head factored: years per age bin from 18 to 60+; 30: one bin per age group"
    )
    head_init: Literal["default", "zero"] = Field(
        "default", description="initial weights of the head; zero: all 0, so that first predictions are uniform"
    )
    drop_rate: Float = Field(0.0, ge=0, lt=1, description="dropout rate before the head")
    frozen_epochs: Annotated[int, NoBool, Field(ge=0)] | Literal["all"] = Field(
        0, description="number of epochs at the start that train only the head; all: never train the backbone"
    )
    cache_features: bool = Field(True, description="with frozen_epochs all: compute the features only once")
    grad_checkpointing: bool = Field(False, description="recompute activations: needs less memory, but more time")


class Loss(ConfigSection):
    name: LossName = Field(
        "cross_entropy", description="the loss; soft_f1: 1 - macro F1, computed from the probabilities of a batch"
    )
    plus: LossName | None = Field(None, description="a second loss, multiplied by plus_weight and added")
    plus_weight: Float = Field(1.0, gt=0, description="weight of the second loss; the first has weight 1")
    gamma: Float = Field(2.0, ge=0, description="focusing parameter of the focal loss; 0: cross entropy")
    label_smoothing: Float = Field(0.0, ge=0, lt=1, description="target weight that is spread evenly over all classes")
    class_weights: Annotated[str, Choice("models/losses.py", "CLASS_WEIGHTS")] = Field(
        "none",
        description="inverse: 1 / photos of the class; effective: 1 / effective number of samples (Cui et al. 2019)",
    )
    effective_beta: Float = Field(
        0.999, gt=0, lt=1, description="with class_weights effective: its beta; near 1, almost the same as inverse"
    )
    age_weight: Float = Field(0.0, ge=0, description="with model.head factored: weight of cross entropy over ages")
    age_sigma: Float = Field(
        2.0, ge=0, le=20, description="with age_weight: standard deviation of the target in years; 0: only one bin"
    )
    age_truncated: bool = Field(
        False, description="with age_weight; true: the target of people aged 60+ has no weight on ages below 60"
    )


class Mix(ConfigSection):
    name: Annotated[str, Choice("loading/mixing.py", "MIXES", without="none")] = Field(
        "none",
        description="mixes each training photo with a partner photo; mixup: blends both; cutmix: pastes a box of the "
        "partner into the photo; half_cutmix: pastes one half of the partner into the photo",
    )
    alpha: Float = Field(
        1.0, gt=0, description="with name mixup or cutmix: the weight of the photo is sampled from Beta(alpha, alpha)"
    )
    halves: Annotated[str, Choice("loading/mixing.py", "SIDEWAYS")] = Field(
        "both", description="with name half_cutmix: left or right half, upper or lower half; both: any of the four"
    )
    partner: Annotated[str, Choice("loading/sampler.py", "PARTNERS")] = Field(
        "any",
        description="the partner; any: any training photo; same: one of the same class; old: one of a person aged 60+",
    )
    clean: Float = Field(0.0, ge=0, lt=1, description="probability that a batch is not mixed")


class Pseudo(ConfigSection):
    runs: tuple[str, ...] = Field(
        (),
        description="finished runs with the same folds; in fold k, their models of fold k label eval photos, "
        "which are then added to the training photos of the fold",
    )
    threshold: Float = Field(0.9, ge=0, lt=1, description="minimum probability of a label; other photos are left out")
    weight: Float = Field(0.5, gt=0, le=1, description="loss weight of a pseudo-labelled photo")
    views: tuple[str, ...] = Field(("none", "hflip"), min_length=1, description="TTA views that predict the labels")


class Optim(ConfigSection):
    name: str = Field("adamw", description="name of a timm optimiser, such as adamw, sgd or lion")
    lr: Float = Field(1e-3, gt=0, description="peak learning rate of the backbone")
    head_lr: Annotated[float, NoBool, Field(gt=0)] | None = Field(
        None, description="peak learning rate of the head; none: the same as lr"
    )
    layer_decay: Float = Field(
        1.0, gt=0, le=1, description="ratio of a layer's learning rate to that of the next layer towards the head"
    )
    weight_decay: Float = Field(0.05, ge=0, description="weight decay; not applied to biases and normalisation layers")
    epochs: Int = Field(5, ge=1, le=10_000, description="number of epochs")
    warmup_epochs: Float = Field(0.5, ge=0, description="epochs of linear warm-up; may be a fraction")
    batch_size: Int = Field(64, ge=1, le=1_000_000, description="photos per optimiser update, over all processes")
    accum_steps: Annotated[int, NoBool, Field(ge=1)] | Literal["auto"] = Field(
        1,
        description="micro-batches per batch: less memory, same gradient (except with batch norm); auto: as few as fit",
    )
    clip_norm: Float = Field(0.0, ge=0, description="maximum norm of the gradient; 0: no clipping")
    ema_decay: Float = Field(0.0, ge=0, lt=1, description="decay of the moving average of the weights; 0: no average")
    schedule: Annotated[str, Choice("training/optim.py", "SCHEDULES")] = Field(
        "cosine", description="after the warm-up; plateau: reduced when macro F1 of the validation fold stalls"
    )
    schedule_by: Literal["update", "epoch"] = Field(
        "update", description="whether warm-up, cosine and step change the rate at each update or each epoch"
    )
    step_epochs: Float = Field(20.0, gt=0, description="with schedule step: epochs between two reductions")
    step_gamma: Float = Field(
        0.5, gt=0, lt=1, description="with schedule step or plateau: learning rate after a reduction / before it"
    )
    plateau_patience: Int = Field(
        2, ge=0, description="with schedule plateau: epochs without improvement before a reduction"
    )
    early_stop: Int = Field(
        0, ge=0, description="number of epochs without a better macro F1 after which training of a fold ends; 0: never"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Optim":
        if self.accum_steps != "auto" and self.accum_steps > self.batch_size:
            raise ValueError(f"accum_steps {self.accum_steps} is more than batch_size {self.batch_size}; lower it")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} is not less than epochs {self.epochs}; lower it")
        return self


class Run(ConfigSection):
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU if there is one, else the CPU")
    precision: Precision = Field(
        "auto",
        description="precision of training; auto: fp32 on a CPU, bf16 on a GPU of compute capability 8.0+, else fp16",
    )
    predict_precision: Precision = Field(
        "auto",
        description="precision of predictions; auto: like run.precision, but bf16 on a CPU that has bf16 instructions",
    )
    compile: bool = Field(False, description="use torch.compile: the first step is slow, the others are faster")
    checkpoint_updates: Int = Field(0, ge=0, description="updates between checkpoints; 0: only after each epoch")
    wandb: Literal["auto", "online", "offline", "disabled"] = Field(
        "auto", description="W&B mode; auto: WANDB_MODE if it is set, else online if there is an API key, else offline"
    )
    wandb_oof: bool = Field(
        False, description="upload each fold's oof.npz to W&B as an artifact, with its image ids and person ids"
    )
    wandb_photos: bool = Field(False, description="upload photos of the most confident errors, with their image ids")
    wandb_project: WandbName | None = Field(None, description="W&B project; none: WANDB_PROJECT, else maskfold")
    wandb_entity: WandbName | None = Field(None, description="W&B user or team; none: WANDB_ENTITY, else your default")
    wandb_tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        (), description="tags of the W&B runs; none: those in the variable WANDB_TAGS, separated by commas"
    )
    keep: Annotated[str, Choice("training/weight_selection.py", "SELECTIONS")] = Field(
        "last",
        description="weights to save; last: of the last epoch; best: of the epoch with the best macro F1; mean: of "
        "the last keep_epochs epochs; soup: greedy soup of these; best and soup use the fold that gives the score",
    )
    keep_epochs: Int = Field(3, ge=1, description="with keep mean or soup: how many of the last epochs are used")
