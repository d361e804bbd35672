"""Fold models -> probabilities of the eval photos, and of the training photos out-of-fold, by the same views."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from maskfold.data.images_table import Prepared, load_prepared
from maskfold.errors import UserError
from maskfold.fileio import sha256
from maskfold.probabilities import OutOfFold, Predictions, load_predictions
from maskfold.runs.run_folder import RunFolder

# Bytes of weights that are held at once: on a small GPU photos and activations need their place too.
MOST_WEIGHTS = 4 * 2**30


def prepared_of(run: RunFolder) -> Prepared:
    """The prepared folder a run was trained on. Raises UserError where it is gone or has changed."""
    # First: a config that was emptied names no prepared folder.
    run.check_unedited()
    prepared = load_prepared(run.prepared_folder)
    run.check_same(run.config, prepared)
    return prepared


def out_of_fold(run: RunFolder, prepared: Prepared) -> OutOfFold:
    """The run's oof.npz. Raises UserError where it is missing, broken, or holds photos that are not in the data."""
    path = run.folder / "oof.npz"
    oof = load_predictions(path, out_of_fold=True)
    if strange := set(oof.image_id) - set(prepared.images.image_id):
        raise UserError(
            f"{path}: {len(strange)} of its photos, first {min(strange)}, are not in {prepared.folder}; delete it and "
            "run train.py again"
        )
    return oof


def checkpoint_hashes(run: RunFolder) -> dict[str, str]:
    """Finished part (fold0, ..., full) -> sha256 of its weights. Raises UserError where one is missing."""
    if not run.finished_folds:
        raise UserError(f"{run.folder}: no fold is finished; train it first")
    for part in run.finished_parts:
        if not run.weights_path(part).exists():
            raise UserError(f"{run.weights_path(part)}: not found; delete {run.part_dir(part)} and train {part} again")
    return {part: sha256(run.weights_path(part)) for part in run.finished_parts}


def predict_runs(
    runs: Sequence[RunFolder], datasets: Sequence[Prepared], views: tuple[str, ...]
) -> list[tuple[Predictions, OutOfFold]]:
    """(eval, out-of-fold) predictions of all finished parts of each run with these views.

    They are those of eval-<tta>.npz and oof-<tta>.npz where the same checkpoints made them, else computed and written
    there. Raises UserError where the data has no eval side.
    """
    sources = [_source(run, prepared) for run, prepared in zip(runs, datasets, strict=True)]
    known = [_known(*member, views) for member in zip(runs, datasets, sources, strict=True)]
    missing = [at for at, found in enumerate(known) if found is None]
    if missing:
        # Only here: cached predictions are blended without torch.
        from maskfold.inference.forward import Member, forward

        for piece in _together([runs[at] for at in missing], missing):
            members = [Member(runs[at], runs[at].config, datasets[at], sources[at]) for at in piece]
            for at, found in zip(piece, forward(members, views), strict=True):
                known[at] = found
                for path, side in zip(_paths(runs[at], views), found, strict=True):
                    side.save(path)
    return [found for found in known if found is not None]


def _paths(run: RunFolder, views: tuple[str, ...]) -> tuple[Path, Path]:
    tta = "+".join(views)
    return run.folder / f"eval-{tta}.npz", run.folder / f"oof-{tta}.npz"


def _source(run: RunFolder, prepared: Prepared) -> np.ndarray:
    """What predictions of a run are made from: the eval photos and each checkpoint."""
    _ = prepared.eval_table  # raises where there is none
    eval_side = f"eval:{prepared.meta['eval_fingerprint']}"
    return np.array([eval_side] + [f"{part}:{digest}" for part, digest in checkpoint_hashes(run).items()])


def _known(
    run: RunFolder, prepared: Prepared, source: np.ndarray, views: tuple[str, ...]
) -> tuple[Predictions, OutOfFold] | None:
    """What is kept, or None. Raises UserError for a file of these checkpoints that lacks photos or has others."""
    paths = _paths(run, views)
    if not all(path.exists() for path in paths):
        return None
    evaluation, oof = load_predictions(paths[0]), load_predictions(paths[1], out_of_fold=True)
    same = all(found.source is not None and np.array_equal(found.source, source) for found in (evaluation, oof))
    if not same:
        return None
    images = prepared.images
    fold_of = dict(zip(prepared.folds.person_id, prepared.folds.fold, strict=True))
    left_out = images.image_id[images.person_id.map(fold_of).isin(run.finished_folds)]
    for path, found, wanted in zip(paths, (evaluation, oof), (prepared.eval_table.image_id, left_out), strict=True):
        if set(found.image_id) != set(wanted):
            lacks, has = (len(set(a) - set(b)) for a, b in ((wanted, found.image_id), (found.image_id, wanted)))
            raise UserError(
                f"{path}: {lacks} of {len(wanted)} photos are missing in it, {has} are not of this data; delete it and "
                "run the same command again"
            )
    return evaluation, oof


def _together(runs: Sequence[RunFolder], positions: Sequence[int]) -> Iterator[list[int]]:
    """Positions in pieces whose models fit into memory side by side; a single run is always a piece."""
    piece: list[int] = []
    held = 0
    for run, at in zip(runs, positions, strict=True):
        size = sum(run.weights_path(part).stat().st_size for part in run.finished_parts)
        if piece and held + size > MOST_WEIGHTS:
            yield piece
            piece, held = [], 0
        piece.append(at)
        held += size
    yield piece
