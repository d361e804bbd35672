"""Suspected wrong labels and people there twice, put before the user: nothing is changed here."""

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.audit.audit_page import PORTRAIT, audit_page, evidence, said_of
from maskfold.audit.duplicate_people import find_duplicates
from maskfold.audit.label_noise import PROPOSED, suspects
from maskfold.data.corrections import COLUMNS
from maskfold.data.images_table import Prepared
from maskfold.data.label_changes import applied_corrections
from maskfold.evaluation.score_tables import wide_console
from maskfold.fileio import write_atomic, write_text
from maskfold.inference.cache import checkpoint_hashes, load_oof, prepared_of
from maskfold.loading.store import Store, open_store
from maskfold.probabilities import mean
from maskfold.runs.run_folder import RunFolder

FOLDER, PAGE = "audit", "audit.html"


def audit(runs: Sequence[RunFolder]) -> Path:
    """Write suspects.csv, corrections.csv, duplicates.csv and audit.html into the first run's audit/; print a summary.

    Several runs are asked together, by the mean of their out-of-fold probabilities. Raises UserError where they are not
    of the same labels, or the data has changed.
    """
    prepared = prepared_of(runs[0])
    oof = mean([load_oof(run, prepared) for run in runs])
    store = open_store(prepared, prepared.images, runs[0].config.data)
    found, fits = suspects(oof)
    before = applied_corrections(prepared)
    corrections = proposed(found, before)
    twice = _with_labels(duplicates(runs[0], prepared, store), prepared)
    # All is there before anything is written.
    shown = audit_page(" + ".join(run.name for run in runs), found, fits, twice, prepared, store)
    folder = runs[0].folder / FOLDER
    for name, table in (("suspects", found), ("corrections", corrections), ("duplicates", twice)):
        write_atomic(folder / f"{name}.csv", partial(table.to_csv, index=False))
    write_text(folder / PAGE, shown)
    for axis in found.axis.unique():
        print(said_of(axis, fits[axis], found[found.axis == axis]))
    if (asked := found.person_id.nunique()) < len(prepared.people):
        print(f"{asked} of {len(prepared.people)} people are judged: not all folds are trained")
    print(f"people there twice: {len(twice)} pairs, {int((~twice.same_fold).sum())} of them in two folds (they leak)")
    print(f"look at them: {folder / PAGE}")
    if found.proposed.any():
        _tell_what_next(folder, prepared, runs[0].config.data.corrections, len(corrections), len(before))
    return folder


def proposed(found: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """A corrections file of what suspects() proposes, with the evidence as reason, and of what was corrected `before`.

    A file is applied to the raw labels: a correction that is contradicted now is left out, which takes it back.
    """
    rows = {(row.person_id, row.field): tuple(row)[1:] for row in before.itertuples()}
    for row in found[found.proposed].itertuples():
        if rows.pop((row.person_id, row.field), None) is None:
            rows[row.person_id, row.field] = (row.person_id, row.field, row.value, evidence(row))
    return pd.DataFrame(list(rows.values()), columns=COLUMNS)


def duplicates(run: RunFolder, prepared: Prepared, store: Store) -> pd.DataFrame:
    """People whose bare-faced portraits are one, by raw photos and by the embedding of the run's first fold model."""
    rows = np.flatnonzero(prepared.images.kind == PORTRAIT)
    portraits = prepared.images.iloc[rows]
    paths = prepared.photo_paths(portraits)
    return find_duplicates(portraits.person_id.tolist(), paths, _embeddings(run, store, rows))


def _embeddings(run: RunFolder, store: Store, rows: np.ndarray) -> np.ndarray:
    """float32 [N, F]: the pooled features of a fold's backbone."""
    # Here, since torch takes seconds: a mistake in what is asked for is reported before.
    import torch

    from maskfold.models.device import Hardware, pick_device
    from maskfold.runs.part_predictions import PartRows, predict_parts

    config, part = run.config, next(iter(checkpoint_hashes(run)))
    hardware = Hardware(pick_device(config.run), torch.float32)
    [features] = predict_parts([PartRows(run, config, part, store, rows, hardware)], output="features")
    return features


def _with_labels(twice: pd.DataFrame, prepared: Prepared) -> pd.DataFrame:
    """Whether both are in one fold, and have one gender and age: apart, one person teaches and examines a model."""
    known = prepared.people.set_index("person_id")[["fold", "gender", "age"]]
    one, other = (known.reindex(twice[column]).reset_index(drop=True) for column in ("person_a", "person_b"))
    return twice.assign(
        same_fold=one.fold == other.fold, same_labels=(one.gender == other.gender) & (one.age == other.age)
    )


def _tell_what_next(folder: Path, prepared: Prepared, known: Path | None, rows: int, before: int) -> None:
    console, meta = wide_console(), prepared.meta
    file, run, root = (shlex.quote(str(path)) for path in (folder / "corrections.csv", folder.parent, meta["root"]))
    held = f", {before} of the data's own corrections considered" if before else ""
    dealt = f"--folds {prepared.num_folds} --seed {meta['fold_seed']}"
    train = "python scripts/train.py CONFIG.yaml --data.prepared NEW --name corrected"
    # Of a run that names its corrections, the new ones are to take their place.
    train += "" if known is None else f" --data.corrections {file}"
    console.print(
        f"{rows} corrections in {file}{held} ({', '.join(PROPOSED)}); strike out what you don't believe, then"
    )
    console.print(f"  what they do to the score: python scripts/evaluate.py {run} --corrections {file}")
    console.print(
        f"  to train with them: python scripts/prepare.py --data {root} --out NEW {dealt} --corrections {file}"
    )
    console.print(f"                      {train}")
