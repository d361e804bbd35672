"""Find suspected label errors and duplicate people, and report them; the data is not changed."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.audit.audit_page import PORTRAIT, audit_page, axis_summary, evidence
from maskfold.audit.duplicate_people import find_duplicates
from maskfold.audit.label_noise import CORRECTABLE_AXES, find_suspects
from maskfold.data.corrections import CORRECTION_COLUMNS
from maskfold.data.images_table import Prepared
from maskfold.data.label_changes import applied_corrections
from maskfold.data.same_data import check_given_root
from maskfold.evaluation.score_tables import wide_console
from maskfold.fileio import check_output, write_csv, write_text
from maskfold.inference.cached_predictions import checkpoint_hashes, load_oof
from maskfold.loading.store import Store, open_store
from maskfold.probabilities import mean
from maskfold.runs.run_data import prepared_of
from maskfold.runs.run_folder import RunFolder

FOLDER, PAGE = "audit", "audit.html"


def audit(runs: Sequence[RunFolder], out: Path | None = None) -> Path:
    """Write suspects.csv, corrections.csv, duplicates.csv and audit.html into a folder; print a summary.

    out: the folder; None for audit/ in the first run. Several runs are combined by the mean of their out-of-fold
    probabilities. Raises UserError if the labels of the runs differ, or if the data has changed since training.
    """
    folder = out or runs[0].folder / FOLDER
    check_output(folder, "--out")
    prepared = prepared_of(runs[0])
    oof = mean([load_oof(run, prepared) for run in runs])
    store = open_store(prepared, prepared.images, runs[0].config.data)
    check_given_root(prepared, prepared.images)
    suspects, fits = find_suspects(oof)
    earlier = applied_corrections(prepared)
    corrections = proposed_corrections(suspects, earlier)
    pairs = _with_labels(duplicate_pairs(runs[0], prepared, store), prepared)
    # Everything is computed before the first file is written, so that a failed computation leaves no partial audit.
    html = audit_page(" + ".join(run.name for run in runs), suspects, fits, pairs, prepared, store)
    for name, table in (("suspects", suspects), ("corrections", corrections), ("duplicates", pairs)):
        write_csv(folder / f"{name}.csv", table)
    write_text(folder / PAGE, html)
    for axis in suspects.axis.unique():
        print(axis_summary(axis, fits[axis], suspects[suspects.axis == axis]))
    if (num_people := suspects.person_id.nunique()) < len(prepared.people):
        print(f"{num_people} of {len(prepared.people)} people are audited, since not all folds are trained")
    print(f"duplicate people: {len(pairs)} pairs, {int((~pairs.same_fold).sum())} in different folds (leakage)")
    print(f"photos: {folder / PAGE}")
    if suspects.proposed.any():
        _print_next_steps(folder, runs[0], prepared, len(corrections), len(earlier))
    return folder


def proposed_corrections(suspects: pd.DataFrame, earlier: pd.DataFrame) -> pd.DataFrame:
    """Return the table for corrections.csv: the proposals of find_suspects() and the earlier corrections.

    earlier: the corrections that the prepared data already has. corrections.csv is applied to the raw labels, so it
    repeats the earlier corrections, except those that a proposal reverts.
    """
    rows = {(row.person_id, row.field): tuple(row)[1:] for row in earlier.itertuples()}
    for row in suspects[suspects.proposed].itertuples():
        if rows.pop((row.person_id, row.field), None) is None:
            rows[row.person_id, row.field] = (row.person_id, row.field, row.value, evidence(row))
    return pd.DataFrame(list(rows.values()), columns=CORRECTION_COLUMNS)


def duplicate_pairs(run: RunFolder, prepared: Prepared, store: Store) -> pd.DataFrame:
    """Call find_duplicates() on the raw photos without a mask, with embeddings from the run's first finished model."""
    rows = np.flatnonzero(prepared.images.kind == PORTRAIT)
    portraits = prepared.images.iloc[rows]
    paths = prepared.photo_paths(portraits)
    return find_duplicates(portraits.person_id.tolist(), paths, _embeddings(run, store, rows))


def _embeddings(run: RunFolder, store: Store, rows: np.ndarray) -> np.ndarray:
    """Return the first finished model's pooled backbone features of the photos in `rows`, float32 [N, F]."""
    # Imported here because importing torch takes seconds; errors in the arguments are reported before that.
    from maskfold.models.device import prediction_hardware
    from maskfold.runs.part_predictions import PartRows, predict_parts

    config, part = run.config, next(iter(checkpoint_hashes(run)))
    hardware = prediction_hardware(config.run, "fp32")
    [features] = predict_parts([PartRows(run, config, part, store, rows, hardware)], output="features")
    return features


def _with_labels(pairs: pd.DataFrame, prepared: Prepared) -> pd.DataFrame:
    """Add the columns same_fold and same_labels (equal gender and age).

    If the two ids of a pair are in different folds, data leaks from training to validation.
    """
    people = prepared.people.set_index("person_id")[["fold", "gender", "age"]]
    one, other = (people.reindex(pairs[column]).reset_index(drop=True) for column in ("person_a", "person_b"))
    return pairs.assign(
        same_fold=one.fold == other.fold, same_labels=(one.gender == other.gender) & (one.age == other.age)
    )


def _print_next_steps(
    folder: Path, first_run: RunFolder, prepared: Prepared, num_corrections: int, num_earlier: int
) -> None:
    console, meta = wide_console(), prepared.meta
    file, run, root = (shlex.quote(str(path)) for path in (folder / "corrections.csv", first_run.folder, prepared.root))
    merged = f", merged with {num_earlier} earlier corrections of the data" if num_earlier else ""
    fold_flags = f"--folds {prepared.num_folds} --seed {meta['fold_seed']}"
    train = "python scripts/train.py CONFIG.yaml --data.prepared NEW --name corrected"
    # If the config names another corrections file, train.py would reject NEW without this flag.
    train += "" if first_run.config.data.corrections is None else f" --data.corrections {file}"
    console.print(
        f"{num_corrections} corrections in {file}{merged} ({', '.join(CORRECTABLE_AXES)}); delete the rows that you "
        "reject, then"
    )
    console.print(f"  score with them: python scripts/evaluate.py {run} --corrections {file}")
    console.print(
        f"  train with them: python scripts/prepare.py --data {root} --out NEW {fold_flags} --corrections {file}"
    )
    console.print(f"                   {train}")
