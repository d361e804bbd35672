"""Every kind of file that the project reads, with the functions that the verbs call to read it."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import array_mutations as arrays
import numpy as np
import pandas as pd
import photo_mutations as photos
import table_mutations as tables
import torch
import tree_mutations as trees
from byte_mutations import Draw, files
from conftest import ROOT
from hypothesis import strategies as st
from workspace import CHECKPOINT_OWNER, NAME, PEOPLE, Workspace

from maskfold.config.experiment import config_hash, replaced
from maskfold.config.yaml_file import config_text, load_config
from maskfold.data.catalog import raise_faults, read_catalog
from maskfold.data.corrections import apply_corrections
from maskfold.data.decode import inspect_photo, read_photo
from maskfold.data.folds import split
from maskfold.data.images_table import load_prepared
from maskfold.data.label_changes import applied_corrections, relabelled
from maskfold.data.prepared_folder import describe, ensure_prepared
from maskfold.data.raw_layout import find_layout
from maskfold.errors import UserError
from maskfold.evaluation.baseline_scores import best_baseline
from maskfold.evaluation.score_tables import gain_sentence, print_submission_score, print_summary
from maskfold.evaluation.submission_tables import print_final_choice, print_submissions
from maskfold.fileio import json_text
from maskfold.inference.blend import blend_runs
from maskfold.inference.cached_predictions import load_oof
from maskfold.inference.ensemble_gain import load_gain
from maskfold.inference.rebuild import rebuild
from maskfold.inference.submission_csv import check_submission
from maskfold.inference.submission_index import add_to_index, read_index, record_score, score_history
from maskfold.inference.suspicious_submission import agreements
from maskfold.loading.crops import CROPS, store_size
from maskfold.loading.photo_shift import check_shift
from maskfold.loading.photo_statistics import statistics_of_file
from maskfold.loading.store import open_store
from maskfold.loading.stored_photo import read_stored_photo
from maskfold.loading.transforms import make_train_transform
from maskfold.metrics.calibration import assess_calibration
from maskfold.models.architecture import find_architecture
from maskfold.models.backbone import build_backbone
from maskfold.models.classifier import build_classifier
from maskfold.pages.figures import learning_curves
from maskfold.report.data_card import data_card
from maskfold.report.eda import photo_sizes
from maskfold.report.run_report import CURVES, OPTIMISATION
from maskfold.runs.part_weights import finished_model
from maskfold.runs.run_data import prepared_of
from maskfold.runs.run_folder import find_run
from maskfold.runs.summary import summarise
from maskfold.runs.wandb_logger import offline_runs
from maskfold.synthetic.demo_data import make_demo
from maskfold.training.checkpoints import load_checkpoint, unpack_state
from maskfold.training.pseudo_labels import read_pseudo_labels
from maskfold.training.pseudo_sources import read_source_parts
from maskfold.training.weight_selection import KeptWeights

SMALL = 256
# A larger photo may unpack to hundreds of megabytes, which takes a second.
MAX_READ_TWICE = 200_000


@dataclass(frozen=True)
class Target:
    """A kind of file: the workspace's files that show what a valid one is, and how to read a mutated one.

    pattern: glob of the valid files below the workspace; the mutated file replaces `place`, the first of them unless
    given. read: (workspace, path of the mutated file). mutate: the mutation that knows the format.
    """

    pattern: str
    read: Callable[[Workspace, Path], object]
    mutate: Callable[[Draw, bytes], bytes] | None
    place: str | None = None

    def strategy(self, space: Workspace) -> st.SearchStrategy:
        paths = sorted(space.home.glob(self.pattern)) + EXTRA_SAMPLES.get(self.pattern, [])
        assert paths, f"the workspace has no {self.pattern}"
        return files([path.read_bytes() for path in paths], self.mutate)

    def path(self, space: Workspace) -> Path:
        return space.home / self.place if self.place else sorted(space.home.glob(self.pattern))[0]


EXTRA_SAMPLES = {"tiny.yaml": [*sorted((ROOT / "configs").glob("*.yaml"))]}


def config(space: Workspace, path: Path) -> None:
    loaded = load_config(path, {"optim.lr": "0.1"})
    config_hash(loaded)
    config_text(loaded)
    if loaded.model.backbone.partition(":")[0] not in ("hf-hub", "hf_hub"):
        find_architecture(loaded.model.backbone)
    if max(*loaded.data.image_size, *loaded.data.crop_size) <= SMALL:
        make_train_transform(loaded.data)


def raw_table(space: Workspace, path: Path) -> None:
    layout = find_layout(space.home / "raw")
    catalog = read_catalog(layout)
    raise_faults(catalog.train_faults + catalog.eval_faults, layout.root)


def corrections(space: Workspace, path: Path) -> None:
    apply_corrections(read_catalog(find_layout(space.home / "raw")).people, path)
    relabelled(space.prepared, path)


def prepared_folder(space: Workspace, path: Path) -> None:
    prepared = load_prepared(path.parent)
    describe(prepared)
    assert prepared.num_folds and prepared.identity and prepared.num_eval_people >= 0
    for fold in range(prepared.num_folds):
        split(prepared.images, prepared.folds, fold)
    relabelled(prepared, None)
    applied_corrections(prepared)
    data_card(prepared, {})
    read_photo(prepared.photo_paths(prepared.images)[0])
    read_photo(prepared.photo_paths(prepared.eval_table)[-1])
    prepared_of(space.run)
    ensure_prepared(space.config.data)


def oof(space: Workspace, path: Path) -> None:
    predictions = load_oof(space.run, space.prepared)
    print_summary(summarise(space.run), space.config)
    assess_calibration(predictions)


def cached(space: Workspace, path: Path) -> None:
    blend_runs([space.run], ("none",))


def metrics(space: Workspace, path: Path) -> None:
    summarise(space.run)
    histories = {part: space.run.read_metrics(part) for part in space.run.finished_parts}
    learning_curves(histories, CURVES)
    learning_curves(histories, OPTIMISATION)


def provenance(space: Workspace, path: Path) -> None:
    find_run(path.parent)
    print_summary(summarise(space.run), space.config)
    prepared_of(space.run)
    best_baseline(space.prepared)


def run_config(space: Workspace, path: Path) -> None:
    run = space.run
    find_run(run.folder)
    prepared_of(run)
    summarise(run)


def manifest(space: Workspace, path: Path) -> None:
    csv = path.with_suffix(".csv")
    print_submission_score(csv, space.home / "raw" / "answers.csv")
    agreements(csv, space.prepared.meta["eval_fingerprint"])
    rebuild(path, space.home / "rebuilt.csv")


def submission(space: Workspace, path: Path) -> None:
    check_submission(path, space.home / "raw" / "eval" / "info.csv")
    print_submission_score(path, space.home / "raw" / "answers.csv")
    agreements(path, space.prepared.meta["eval_fingerprint"])


def truth(space: Workspace, path: Path) -> None:
    print_submission_score(space.home / "submissions" / "tiny.csv", path)


def index(space: Workspace, path: Path) -> None:
    score_history(read_index(path.parent))
    record_score(path.parent, "tiny", "0.5")
    with contextlib.suppress(UserError):
        record_score(path.parent, "tinny", "0.5")


def leaderboard(space: Workspace, path: Path) -> None:
    print_submissions(path.parent)
    print_final_choice(path.parent, 2)


def index_row(space: Workspace, path: Path) -> None:
    manifest = {
        "name": "tiny", "created": "now", "members": [{"run": "tiny"}], "tta": ["none"], "csv_sha256": "x",
        "expected": {"macro_f1": 0.5, "macro_f1_ci95": [0.4, 0.6], "board95": None, "board_half95": None},
    }  # fmt: skip
    add_to_index(path.parent, manifest)


def gain(space: Workspace, path: Path) -> None:
    gain_sentence(load_gain([space.run]), 2)


def baselines(space: Workspace, path: Path) -> None:
    print_summary(summarise(space.run), space.config, baseline=best_baseline(space.prepared))


def demo(space: Workspace, path: Path) -> None:
    make_demo(path.parent, PEOPLE, PEOPLE, seed=1)


def part_weights(space: Workspace, path: Path) -> None:
    finished_model(space.run, space.config, "fold0", torch.device("cpu"))


def user_weights(space: Workspace, path: Path) -> None:
    model = space.config.model.model_copy(update={"weights": path})
    build_backbone(model, space.config.data)


def model_folder(space: Workspace, path: Path) -> None:
    name = f"local-dir:{path.parent}"
    changed = replaced(space.config, model={"backbone": name, "pretrained": True})
    build_classifier(changed)


def checkpoint(space: Workspace, path: Path) -> None:
    loaded = load_checkpoint(space.run, "full", CHECKPOINT_OWNER)
    unpack_state(space.train_state, loaded["train_state"], path)


def kept_weights(space: Workspace, path: Path) -> None:
    rows = space.run.read_metrics("fold0")
    keep = space.config.run.model_copy(update={"keep": "mean", "keep_epochs": 2})
    KeptWeights(space.run, "full", keep, True).final(rows, {}, lambda weights: 0.0)


def store(space: Workspace, path: Path) -> None:
    for table in (space.prepared.images, space.prepared.evaluation):
        photos = open_store(space.prepared, table, space.config.data)
        assert len(photos) == len(table)
        assert photos[0].shape == photos[len(photos) - 1].shape == (*store_size(space.config.data), 3)


def features(space: Workspace, path: Path) -> None:
    space.read_features()


def photo(space: Workspace, path: Path) -> None:
    _, fault = inspect_photo(path)
    if path.stat().st_size > MAX_READ_TWICE:
        return
    try:
        assert np.isfinite(statistics_of_file(path)).all()
        photo_sizes([path])
    except UserError as error:
        # Otherwise prepare.py would accept a photo on which training fails.
        assert fault is not None, f"inspect_photo accepts the photo, but: {error}"
        raise


def photo_crops(space: Workspace, path: Path) -> None:
    # One crop for each file, since a large picture takes a second to decode.
    crop = sorted(CROPS)[path.stat().st_size % len(CROPS)]
    read_stored_photo(path, space.config.data.model_copy(update={"crop": crop}))


def shift(space: Workspace, path: Path) -> None:
    result, _ = check_shift(space.prepared)
    json_text({"shift": result}).encode()


def pseudo_labels(space: Workspace, path: Path) -> None:
    read_pseudo_labels(path, pd.Index(space.prepared.eval_table.image_id))


def pseudo_sources(space: Workspace, path: Path) -> None:
    read_source_parts(path, "train it again")


def wandb_record(space: Workspace, path: Path) -> None:
    offline_runs(space.run.folder)


RUN = f"runs/{NAME}"
TARGETS: dict[str, Target] = {
    "config": Target("tiny.yaml", config, trees.mutate_yaml),
    "run config": Target(f"{RUN}/config.yaml", run_config, trees.mutate_yaml),
    "train.csv": Target("raw/train/train.csv", raw_table, tables.mutate_csv),
    "info.csv": Target("raw/eval/info.csv", raw_table, tables.mutate_csv),
    "corrections": Target("corrections.csv", corrections, tables.mutate_csv),
    "images.csv": Target("prepared/images.csv", prepared_folder, tables.mutate_csv),
    "folds.csv": Target("prepared/folds.csv", prepared_folder, tables.mutate_csv),
    "eval.csv": Target("prepared/eval.csv", prepared_folder, tables.mutate_csv),
    "dataset.json": Target("prepared/dataset.json", prepared_folder, trees.mutate_json),
    "shift.json": Target("prepared/shift.json", shift, trees.mutate_json),
    "baselines.json": Target("prepared/baselines.json", baselines, trees.mutate_json),
    "store": Target("prepared/store/center-*.npy", store, arrays.mutate_npy),
    "features": Target("prepared/store/features-*.npy", features, arrays.mutate_npy),
    "provenance": Target(f"{RUN}/provenance.json", provenance, trees.mutate_json),
    "metrics": Target(f"{RUN}/fold0/metrics.jsonl", metrics, trees.mutate_json_lines),
    "oof": Target(f"{RUN}/oof.npz", oof, arrays.mutate_npz),
    "cached eval": Target(f"{RUN}/eval-none.npz", cached, arrays.mutate_npz),
    "cached oof": Target(f"{RUN}/oof-none.npz", cached, arrays.mutate_npz),
    "gain.json": Target(f"{RUN}/gain.json", gain, trees.mutate_json),
    "part weights": Target(f"{RUN}/fold0/model.safetensors", part_weights, arrays.mutate_safetensors),
    "checkpoint": Target(f"{RUN}/full/state/last.pt", checkpoint, arrays.mutate_torch),
    "kept weights": Target(f"{RUN}/full/state/epoch-*.safetensors", kept_weights, arrays.mutate_safetensors),
    "pseudo.csv": Target(f"{RUN}/fold0/pseudo.csv", pseudo_labels, tables.mutate_csv),
    "pseudo.json": Target(f"{RUN}/fold0/pseudo.json", pseudo_sources, trees.mutate_json),
    "wandb.json": Target(f"{RUN}/fold0/wandb.json", wandb_record, trees.mutate_json),
    "manifest": Target("submissions/tiny.json", manifest, trees.mutate_json),
    "submission": Target("submissions/tiny.csv", submission, tables.mutate_csv),
    "truth": Target("raw/answers.csv", truth, tables.mutate_csv),
    "index.csv": Target("submissions/index.csv", index, tables.mutate_csv),
    "index.csv, leaderboard": Target("submissions/index.csv", leaderboard, tables.mutate_csv),
    "index.csv, new row": Target("submissions/index.csv", index_row, tables.mutate_csv),
    "demo.json": Target("raw/demo.json", demo, trees.mutate_json),
    "safetensors": Target("weights/net.safetensors", user_weights, arrays.mutate_safetensors),
    "torch weights": Target("weights/net.pth", user_weights, arrays.mutate_torch),
    "model folder": Target("weights/config.json", model_folder, trees.mutate_json),
    "JPEG": Target("photos/*.jpg", photo, photos.mutate_jpeg),
    "JPEG, cropped": Target("photos/*.jpg", photo_crops, photos.mutate_jpeg),
    "PNG": Target("photos/*.png", photo, photos.mutate_png),
    "PNG, cropped": Target("photos/*.png", photo_crops, photos.mutate_png),
}
