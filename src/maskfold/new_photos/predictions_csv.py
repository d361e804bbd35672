"""Predict photos and write one row per photo to a CSV file."""

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from maskfold.errors import UserError
from maskfold.fileio import check_output, write_atomic
from maskfold.inference.loaded_run import prediction_table
from maskfold.labels import NUM_CLASSES
from maskfold.new_photos.ensemble import Ensemble
from maskfold.new_photos.input_reader import Inputs, preprocessing_key, read_chunks
from maskfold.progress import progress

# The largest number of photos that are predicted together.
MAX_CHUNK_PHOTOS = 1024


@dataclass
class PredictionCounts:
    """What has been predicted.

    by_label: int [18], the number of photos of each predicted class. num_errors: the number of photos that could not be
    read; first_error: the path of the first of them and what is wrong with it.
    """

    by_label: np.ndarray = field(default_factory=lambda: np.zeros(NUM_CLASSES, int))
    num_errors: int = 0
    first_error: str = ""

    def add(self, table: pd.DataFrame) -> None:
        failed = table[table.error != ""]
        self.by_label += np.bincount(table.label.drop(failed.index).astype(int), minlength=NUM_CLASSES)
        if self.num_errors == 0 and len(failed):
            self.first_error = f"{failed.path.iloc[0]}: {failed.error.iloc[0]}"
        self.num_errors += len(failed)


def check_csv(out: Path, named: Sequence[Path]) -> None:
    """Raise UserError if `out` cannot be written, or if it is one of the paths that --photos names."""
    check_output(out.parent, "--out", out)
    if out.resolve() in {path.resolve() for path in named}:
        raise UserError(f"--out {out}: would overwrite this file, which --photos names; give another --out")


def predict_photos(ensemble: Ensemble, photos: Sequence[Path], out: Path) -> PredictionCounts:
    """Predict the photos and write `out`. It is written in parts, so memory does not grow with the number of photos.

    The rows have the order of `photos`. Columns: those of prediction_table, and `error`, which is empty for a photo
    that was read. In the row of a photo that could not be read, all columns but path and error are empty. Raises
    UserError, and writes no file, if no photo can be read or if the models do not fit into the GPU's memory.
    """
    counts = PredictionCounts()
    configs = [model.config for model in ensemble.models]
    keys = [preprocessing_key(config.data) for config in configs]
    # A multiple of all batch sizes, so that each model gets the same batches as for a submission.
    chunk_size = min(math.lcm(*(config.optim.batch_size for config in configs)), MAX_CHUNK_PHOTOS)

    def write(temporary: Path) -> None:
        with (
            # A name that is not UTF-8 is written with its own bytes.
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
            closing(read_chunks(photos, [config.data for config in configs], chunk_size)) as chunks,
            progress("predicting", len(photos), "photos") as advance,
        ):
            for start, chunk in zip(range(0, len(photos), chunk_size), chunks, strict=True):
                table = _predict_chunk(ensemble, photos[start : start + chunk_size], chunk, keys)
                counts.add(table)
                table.to_csv(file, index=False, header=start == 0)
                advance(len(chunk))
        if counts.num_errors == len(photos):
            raise UserError(
                f"--photos: none of the {len(photos):,} photos can be read; the first is {counts.first_error}"
            )

    write_atomic(out, write)
    return counts


def _predict_chunk(ensemble: Ensemble, paths: Sequence[Path], chunk: Sequence[Inputs], keys: list[str]) -> pd.DataFrame:
    """Return the rows of predictions.csv. keys: the preprocessing_key of each model of the ensemble."""
    try:
        members = [
            model.probs((inputs.by_key[key] for inputs in chunk), ensemble.views)
            for model, key in zip(ensemble.models, keys, strict=True)
        ]
    except torch.OutOfMemoryError as error:
        raise UserError("the GPU has too little memory for all models together; predict with fewer runs") from error
    table = prediction_table(list(map(str, paths)), *ensemble.blend(members))
    errors = [inputs.error for inputs in chunk]
    if any(errors):
        # A nullable integer, since a float label would be written as 3.0.
        values = table.drop(columns="path").astype({"label": "Int64"})
        was_read = [not error for error in errors]
        table = pd.concat([table[["path"]], values[was_read].reindex(values.index)], axis=1)
    return table.assign(error=errors)
