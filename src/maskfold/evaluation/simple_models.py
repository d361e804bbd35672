"""Simple baselines that a trained net should beat. They are scored on the same folds as the net."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from maskfold.cache_folder import CacheFolder
from maskfold.config.experiment import Config
from maskfold.data.folds import split
from maskfold.data.prepared_folder import ensure_prepared
from maskfold.evaluation.baseline_scores import BASELINES_FILE, write_baselines
from maskfold.fileio import check_output
from maskfold.loading.feature_cache import Features
from maskfold.loading.store import Store, open_store
from maskfold.metrics.bootstrap import score_intervals
from maskfold.metrics.scores import scores
from maskfold.models.classifier import build_classifier
from maskfold.models.device import pick_device, pick_precisions, pick_workers, prediction_hardware
from maskfold.models.input_size import check_input_size
from maskfold.progress import report

# (height, width) of the thumbnails: large enough to show head, hair and mask.
THUMBNAIL = (32, 24)
# Strong regularisation, because there are a thousand correlated features and few people.
LOGISTIC_C = 0.003
MAX_ITERATIONS = 300

# (inputs, labels, train rows, val rows) -> predicted labels of the val rows, after fitting on the train rows.
Baseline = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def score_baselines(
    config: Config, out: Path | None = None, cache: CacheFolder | None = None
) -> tuple[Path | None, dict[str, dict]]:
    """Score every baseline out-of-fold and record the scores. Return (path of the record, {name: scores}).

    out: file of the record; None for baselines.json in --cache or the prepared folder. If the record cannot be written,
    a note is printed and the returned path is None. Logistic regression needs pretrained weights (model.weights or
    model.pretrained) and is left out without them.
    """
    if out is not None:
        check_output(out.parent, "--out", out)
    cache = cache or CacheFolder()
    prepared = ensure_prepared(config.data, cache)
    images, labels = prepared.images, prepared.images.label.to_numpy()
    store = open_store(prepared, images, config.data)
    baselines: dict[str, tuple[Baseline, np.ndarray]] = {
        "most frequent class": (most_frequent, labels),
        "nearest class mean image": (nearest_mean, thumbnails(store)),
    }
    if config.model.weights or config.model.pretrained:
        name = f"logistic regression on {config.model.backbone} features"
        baselines[name] = (logistic_regression, frozen_features(config, store))
    scores_by_name = {}
    for name, (baseline, inputs) in baselines.items():
        pred_labels = np.empty_like(labels)
        for fold in range(prepared.num_folds):
            train, val = split(images, prepared.folds, fold)
            pred_labels[val] = baseline(inputs, labels, train, val)
        bounds = score_intervals(labels, pred_labels, images.person_id.to_numpy(), prepared.num_eval_people)
        scores_by_name[name] = scores(labels, pred_labels) | bounds
    write = partial(write_baselines, prepared=prepared, scores_by_name=scores_by_name)
    path = out or cache.folders(prepared.folder)[0] / BASELINES_FILE
    is_written = cache.keep(path, write, "the scores of the baselines")
    return (path if is_written else None), scores_by_name


def most_frequent(_inputs: np.ndarray, labels: np.ndarray, train: np.ndarray, val: np.ndarray) -> np.ndarray:
    return np.full(len(val), np.bincount(labels[train]).argmax())


def nearest_mean(inputs: np.ndarray, labels: np.ndarray, train: np.ndarray, val: np.ndarray) -> np.ndarray:
    """Predict the class whose mean training image is nearest by squared Euclidean distance."""
    present = np.unique(labels[train])
    means = np.stack([inputs[train][labels[train] == label].mean(0) for label in present])
    distances = (means**2).sum(1) - 2 * inputs[val] @ means.T
    return present[distances.argmin(1)]


def logistic_regression(inputs: np.ndarray, labels: np.ndarray, train: np.ndarray, val: np.ndarray) -> np.ndarray:
    """Predict by logistic regression on standardised inputs; print a warning if the fit does not converge."""
    classifier = LogisticRegression(C=LOGISTIC_C, max_iter=MAX_ITERATIONS)
    model = make_pipeline(StandardScaler(), classifier)
    with warnings.catch_warnings():
        # The warning below replaces scikit-learn's.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inputs[train], labels[train])
    if classifier.n_iter_.max() >= MAX_ITERATIONS:
        report(
            f"warning: logistic regression did not converge in {MAX_ITERATIONS} iterations, so its score is that of an "
            "unfinished fit"
        )
    return model.predict(inputs[val])


def thumbnails(store: Store) -> np.ndarray:
    """Shrink the photos to float32 [N, 32 * 24 * 3], each with mean 0 and std 1, so that lighting does not matter."""
    small = [cv2.resize(store[row], THUMBNAIL[::-1], interpolation=cv2.INTER_AREA).ravel() for row in range(len(store))]
    pixels = np.array(small, np.float32)
    return (pixels - pixels.mean(1, keepdims=True)) / np.maximum(pixels.std(1, keepdims=True), 1)


def frozen_features(config: Config, store: Store) -> np.ndarray:
    """Features of each photo from the backbone without fine-tuning, float32 [N, F]."""
    _, precision = pick_precisions(config.run, pick_device(config.run))
    hardware = prediction_hardware(config.run, precision)
    torch.manual_seed(config.seed)
    model = build_classifier(config)
    check_input_size(model, config)
    model.to(hardware.device)
    workers = pick_workers(config.data.num_workers, hardware.device)
    features = Features(model, [store], config.data, config.optim.batch_size, workers)
    return features.view("none", hardware)
