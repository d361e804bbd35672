"""Predict eval photos, and training photos out-of-fold, with the models of runs; cache the results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.fileio import sha256
from maskfold.probabilities import OutOfFold, Predictions, load_predictions
from maskfold.runs.run_folder import RunFolder

# Maximum bytes of weights that are loaded at once: photos and activations must fit into a small GPU's memory, too.
MAX_WEIGHT_BYTES = 4 * 2**30


def load_oof(run: RunFolder, prepared: Prepared) -> OutOfFold:
    """Read the run's oof.npz. Raises UserError if it is missing or damaged, or has photos that are not in the data."""
    path = run.folder / "oof.npz"
    oof = load_predictions(path, out_of_fold=True)
    if unknown := set(oof.image_id) - set(prepared.images.image_id):
        raise UserError(
            f"{path}: {len(unknown)} of its photos, for example {min(unknown)}, are not in {prepared.folder}; delete "
            "the file and run train.py again"
        )
    return oof


def checkpoint_hashes(run: RunFolder) -> dict[str, str]:
    """Return {finished part (fold0, ..., full): SHA-256 of its weights}.

    Raises UserError if no fold is finished, or if the weights of a part are missing.
    """
    if not run.finished_folds:
        raise UserError(f"{run.folder}: no fold is finished; train it first")
    for part in run.finished_parts:
        if not run.weights_path(part).exists():
            raise UserError(f"{run.weights_path(part)}: not found; delete {run.part_dir(part)} and train {part} again")
    return {part: sha256(run.weights_path(part)) for part in run.finished_parts}


@dataclass(frozen=True)
class _Request:
    """A request for cached predictions of a run. source: the result of _source.

    need_folds: whether the eval predictions must have fold_probs, which files of older versions lack. fix: the last
    part of a note about damaged predictions, which says what happens next.
    """

    run: RunFolder
    prepared: Prepared
    views: tuple[str, ...]
    source: np.ndarray
    need_folds: bool
    fix: str = "they are computed again"


def predict_runs(
    runs: Sequence[RunFolder], datasets: Sequence[Prepared], views: tuple[str, ...], need_folds: bool = False
) -> list[tuple[Predictions, OutOfFold]]:
    """Return (eval, out-of-fold) predictions for each run, made by all its finished parts with these TTA views.

    They are read from eval-<tta>.npz and oof-<tta>.npz, in --cache or the run folder, if these files were made from the
    current checkpoints and eval photos; otherwise they are computed and written there. need_folds: whether the eval
    predictions must have fold_probs. If so, files of older versions that lack fold_probs are made again. Raises
    UserError if the data has no eval set or a run has no weights.
    """
    pairs = zip(runs, datasets, strict=True)
    requests = [_Request(run, prepared, views, _source(run, prepared), need_folds) for run, prepared in pairs]
    cached = [_read_cached(request) for request in requests]
    missing = [index for index, predictions in enumerate(cached) if predictions is None]
    if missing:
        # Imported only here, so that cached predictions can be blended without importing torch.
        from maskfold.inference.predict_members import Member, predict_members

        for group in _groups_within_memory([runs[index] for index in missing], missing):
            members = [
                Member(runs[index], runs[index].config, datasets[index], requests[index].source) for index in group
            ]
            for index, predictions in zip(group, predict_members(members, views), strict=True):
                cached[index] = predictions
                cache = runs[index].places.cache
                for paths, each in zip(prediction_paths(runs[index], views), predictions, strict=True):
                    cache.keep(paths[0], each.save, "the predictions")
    return [predictions for predictions in cached if predictions is not None]


def read_cached_predictions(
    run: RunFolder, prepared: Prepared, views: tuple[str, ...]
) -> tuple[Predictions, OutOfFold] | None:
    """Return the cached (eval, out-of-fold) predictions of a run, with fold_probs; None if there are no valid ones.

    Raises UserError if the data has no eval set or the run has no weights.
    """
    request = _Request(run, prepared, views, _source(run, prepared), True, "the next submit.py computes them again")
    return _read_cached(request)


def prediction_paths(run: RunFolder, views: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    """Return the possible paths of the eval predictions, and those of the out-of-fold predictions.

    New files get the first path of each list.
    """
    tta = "+".join(views)
    return run.cache_paths(f"eval-{tta}.npz"), run.cache_paths(f"oof-{tta}.npz")


def _source(run: RunFolder, prepared: Prepared) -> np.ndarray:
    """Return text [1 + P]: the fingerprint of the eval photos, then the checkpoint hash of each of P finished parts."""
    _ = prepared.eval_table  # raises UserError without an eval set
    fingerprint = f"eval:{prepared.meta['eval_fingerprint']}"
    return np.array([fingerprint] + [f"{part}:{digest}" for part, digest in checkpoint_hashes(run).items()])


def _read_cached(request: _Request) -> tuple[Predictions, OutOfFold] | None:
    """Return the cached predictions; None if they are missing, damaged or out of date."""
    pairs = (_read_pair(paths, request) for paths in zip(*prediction_paths(request.run, request.views), strict=True))
    return next((pair for pair in pairs if pair is not None), None)


def _read_pair(paths: tuple[Path, Path], request: _Request) -> tuple[Predictions, OutOfFold] | None:
    if not all(path.exists() for path in paths):
        return None
    run, prepared, fix = request.run, request.prepared, request.fix
    note = run.places.cache.note
    try:
        cached = (load_predictions(paths[0], fix=fix), load_predictions(paths[1], out_of_fold=True, fix=fix))
    except UserError as error:
        note(str(error))
        return None
    if not all(each.source is not None and np.array_equal(each.source, request.source) for each in cached):
        return None
    num_folds, fold_probs = len(run.finished_folds), cached[0].fold_probs
    if fold_probs is None and request.need_folds:
        return None
    if fold_probs is not None and len(fold_probs) != num_folds:
        note(f"{paths[0]}: has fold_probs of {len(fold_probs)} folds, but {num_folds} folds are finished; {fix}")
        return None
    images = prepared.images
    oof_ids = images.image_id[images.person_id.map(prepared.fold_by_person).isin(run.finished_folds)]
    for path, predictions, ids in zip(paths, cached, (prepared.eval_table.image_id, oof_ids), strict=True):
        if set(predictions.image_id) != set(ids):
            missing, unknown = set(ids) - set(predictions.image_id), set(predictions.image_id) - set(ids)
            note(f"{path}: {len(missing)} of {len(ids)} photos are missing, {len(unknown)} are not in this data; {fix}")
            return None
    return cached


def _groups_within_memory(runs: Sequence[RunFolder], indices: Sequence[int]) -> Iterator[list[int]]:
    """Yield `indices` in groups with at most MAX_WEIGHT_BYTES of weights; a single larger run is a group of its own."""
    group: list[int] = []
    group_bytes = 0
    for run, index in zip(runs, indices, strict=True):
        size = sum(run.weights_path(part).stat().st_size for part in run.finished_parts)
        if group and group_bytes + size > MAX_WEIGHT_BYTES:
            yield group
            group, group_bytes = [], 0
        group.append(index)
        group_bytes += size
    yield group
