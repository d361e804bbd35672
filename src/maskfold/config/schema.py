"""The sections of a configuration: every key with its default, its bounds and its meaning.

If a meaning begins with a value of another key, such as `crop face:`, the key has no effect with other values.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from maskfold.config.choices import Choice
from maskfold.config.field_types import MAX_SEED, Augment, ConfigSection, File, Float, Int, NoBool, Pixels, WandbName


class Data(ConfigSection):
    root: File | None = Field(None, description="raw data folder; none: SM_CHANNEL_TRAIN and SM_CHANNEL_EVAL")
    prepared: File | None = Field(None, description="prepared folder; none: data/prepared/<name of root>")
    folds: Int = Field(5, ge=2, le=1000, description="number of folds over people; ignored if folds.csv exists")
    fold_seed: Int = Field(
        42, ge=0, le=MAX_SEED, description="seed of the assignment of people to folds; ignored if folds.csv exists"
    )
    image_size: tuple[Pixels, Pixels] = Field((128, 96), description="height and width of the model's input, in pixels")
    crop: Annotated[str, Choice("loading/crops.py", "CROPS")] = Field(
        "center",
        description="crop before resizing; center: crop_size; face: around the face, or center if none is detected",
    )
    crop_size: tuple[Pixels, Pixels] = Field((384, 288), description="height and width of the centre crop, in pixels")
    face_margin: Float = Field(0.25, ge=0, le=4, description="crop face: margin above and below, in heights of a face")
    augment: Augment = Field(
        "light",
        description="training augmentation: a preset, none, or (YAML only) a list of albumentations transforms",
    )
    randaugment_ops: Int = Field(2, ge=1, le=9, description="augment randaugment: number of operations per photo")
    randaugment_magnitude: Float = Field(0.5, gt=0, le=1, description="augment randaugment: maximum strength")
    sampling: Annotated[str, Choice("loading/sampler.py", "SAMPLINGS")] = Field(
        "all",
        description="photos in an epoch; all: each once; balanced: the same number, with equal class frequencies",
    )
    num_workers: Annotated[int, NoBool, Field(ge=0, le=64)] | Literal["auto"] = Field(
        "auto",
        description="number of loader processes; auto: 0 on a CPU, up to 8 with a GPU; does not change the result",
    )
    corrections: File | None = Field(None, description="CSV of label corrections, applied when the data is prepared")


class Model(ConfigSection):
    backbone: str = Field("resnet18", description="any timm model name, hf-hub:OWNER/NAME or local-dir:FOLDER")
    pretrained: bool = Field(False, description="start from timm's pretrained weights (downloads them)")
    weights: File | None = Field(
        None, description="file of backbone weights (safetensors, .pth, .bin) to start from; overrides pretrained"
    )
    head: Annotated[str, Choice("models/heads.py", "HEADS")] = Field(
        "joint",
        description="joint: one layer of 18 logits; factored: separate logits of mask, gender and age bins",
    )
    age_bin_years: Int = Field(
        1,
        ge=1,
        le=30,
        description="head factored: years per bin of the ages 18 to 60+; 30: the three age groups",
    )
    head_init: Literal["default", "zero"] = Field(
        "default", description="zero: start with zero weights, which predict every class with the same probability"
    )
    drop_rate: Float = Field(0.0, ge=0, lt=1, description="dropout rate before the head's linear layer")
    frozen_epochs: Annotated[int, NoBool, Field(ge=0)] | Literal["all"] = Field(
        0,
        description="number of initial epochs that train only the head; all: the backbone is never trained",
    )
    cache_features: bool = Field(True, description="frozen_epochs all: compute the features once")
    grad_checkpointing: bool = Field(False, description="recompute activations: less memory, slower")


LossName = Annotated[str, Choice("models/losses.py", "PHOTO_LOSSES", "BATCH_LOSSES")]


class Loss(ConfigSection):
    name: LossName = Field(
        "cross_entropy", description="the loss; soft_f1: 1 - macro F1 computed from the probabilities of a batch"
    )
    plus: LossName | None = Field(None, description="a second loss, multiplied by plus_weight and added")
    plus_weight: Float = Field(1.0, gt=0, description="weight of the second loss; the first has 1")
    gamma: Float = Field(2.0, ge=0, description="focusing parameter of the focal loss; 0: cross entropy")
    label_smoothing: Float = Field(0.0, ge=0, lt=1, description="share of each target that is spread over all classes")
    class_weights: Annotated[str, Choice("models/losses.py", "CLASS_WEIGHTS")] = Field(
        "none",
        description="inverse: 1 / class count; effective: 1 / effective number of samples (Cui et al. 2019)",
    )
    effective_beta: Float = Field(0.999, gt=0, lt=1, description="class_weights effective: beta; near 1: like inverse")
    age_weight: Float = Field(0.0, ge=0, description="head factored: weight of the cross entropy over ages")
    age_sigma: Float = Field(
        2.0, ge=0, le=20, description="age_weight: standard deviation of the age target, in years; 0: a single bin"
    )


class Mix(ConfigSection):
    name: Annotated[str, Choice("loading/mixing.py", "MIXES", without="none")] = Field(
        "none", description="mixes each training photo with a partner; half_cutmix pastes one half of the partner"
    )
    alpha: Float = Field(1.0, gt=0, description="mixup, cutmix: mixing ratios are sampled from Beta(alpha, alpha)")
    halves: Annotated[str, Choice("loading/mixing.py", "SIDEWAYS")] = Field(
        "both", description="half_cutmix: direction in which photos are halved; both: chosen at random"
    )
    partner: Annotated[str, Choice("loading/sampler.py", "PARTNERS")] = Field(
        "any", description="any: any training photo; same: one of the same class; old: one of a person aged 60 or more"
    )
    clean: Float = Field(0.0, ge=0, lt=1, description="share of batches that are not mixed")


class Pseudo(ConfigSection):
    runs: tuple[str, ...] = Field(
        (),
        description="finished runs on the same folds; their fold-k models label eval photos for training fold k",
    )
    threshold: Float = Field(0.9, ge=0, lt=1, description="minimum probability of a label for its photo to be used")
    weight: Float = Field(0.5, gt=0, le=1, description="loss weight of a pseudo-labelled photo")
    views: tuple[str, ...] = Field(("none", "hflip"), min_length=1, description="TTA views to average for the labels")


class Optim(ConfigSection):
    name: str = Field("adamw", description="any timm optimiser: adamw, sgd, lion, ...")
    lr: Float = Field(1e-3, gt=0, description="peak learning rate of the backbone")
    head_lr: Annotated[float, NoBool, Field(gt=0)] | None = Field(
        None, description="peak learning rate of the head; none: the value of lr"
    )
    layer_decay: Float = Field(1.0, gt=0, le=1, description="learning rate of a layer, divided by the next layer's")
    weight_decay: Float = Field(0.05, ge=0, description="weight decay; not applied to biases and normalisation layers")
    epochs: Int = Field(5, ge=1, le=10_000, description="number of epochs")
    warmup_epochs: Float = Field(0.5, ge=0, description="epochs of linear warm-up; may be a fraction")
    batch_size: Int = Field(64, ge=1, le=1_000_000, description="photos per optimiser update, over all processes")
    accum_steps: Int = Field(
        1,
        ge=1,
        description="micro-batches per batch, to use less memory; the gradient stays the same, except with batch norm",
    )
    clip_norm: Float = Field(0.0, ge=0, description="maximum norm of the gradient; 0: no clipping")
    ema_decay: Float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of the moving average of the weights; 0: no average",
    )
    schedule: Annotated[str, Choice("training/optim.py", "SCHEDULES")] = Field(
        "cosine",
        description="learning rate after the warm-up; plateau: depends on the macro F1 of its own validation fold",
    )
    schedule_by: Literal["update", "epoch"] = Field(
        "update", description="whether warm-up, cosine and step change the rate at each update or at each epoch"
    )
    step_epochs: Float = Field(20.0, gt=0, description="schedule step: epochs between two reductions")
    step_gamma: Float = Field(0.5, gt=0, lt=1, description="schedule step and plateau: new rate / old rate")
    plateau_patience: Int = Field(
        2, ge=0, description="schedule plateau: epochs without improvement before a reduction"
    )
    early_stop: Int = Field(0, ge=0, description="epochs without a better macro F1 after which a fold ends; 0: never")

    @model_validator(mode="after")
    def _consistent(self) -> "Optim":
        if self.accum_steps > self.batch_size:
            raise ValueError(f"accum_steps {self.accum_steps} is more than batch_size {self.batch_size}; lower it")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} is not less than epochs {self.epochs}; lower it")
        return self


Precision = Literal["auto", "fp32", "bf16", "fp16"]


class Run(ConfigSection):
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU if there is one")
    precision: Precision = Field(
        "auto",
        description="precision of training; auto: fp32 on a CPU, bf16 on a GPU from compute capability 8.0, else fp16",
    )
    predict_precision: Precision = Field(
        "auto",
        description="precision of predictions; auto: like run.precision, but bf16 on a CPU with bf16 instructions",
    )
    compile: bool = Field(False, description="use torch.compile: the first step is slow, the others are faster")
    checkpoint_updates: Int = Field(0, ge=0, description="updates between checkpoints; 0: after each epoch only")
    wandb: Literal["auto", "online", "offline", "disabled"] = Field(
        "auto", description="Weights & Biases; auto: WANDB_MODE, else online if there is an API key, else offline"
    )
    wandb_oof: bool = Field(
        False, description="upload each fold's oof.npz to W&B as an artifact, with its image ids and person ids"
    )
    wandb_photos: bool = Field(False, description="upload the most confident errors to W&B, with their image ids")
    wandb_project: WandbName | None = Field(None, description="W&B project; none: WANDB_PROJECT, else maskfold")
    wandb_entity: WandbName | None = Field(
        None, description="W&B user or team; none: WANDB_ENTITY, else your default entity"
    )
    wandb_tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        (), description="tags of the W&B runs; none: those in WANDB_TAGS, separated by commas"
    )
    keep: Annotated[str, Choice("training/weight_selection.py", "SELECTIONS")] = Field(
        "last",
        description="weights to save: of the last epoch, of the best epoch, the mean of the last keep_epochs, or a "
        "greedy soup of them; best and soup are selected on their own validation fold",
    )
    keep_epochs: Int = Field(3, ge=1, description="keep mean and soup: number of last epochs")
