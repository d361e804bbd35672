"""Ensemble -> submission.csv, checked against info.csv, and the manifest that says what made it."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from maskfold.analysis.metrics import intervals, macro_f1
from maskfold.config import config_hash
from maskfold.data.tables import EVAL_COLUMNS, read_table
from maskfold.errors import UserError
from maskfold.files import sha256, write_atomic, write_json
from maskfold.inference.answers import check_submission
from maskfold.inference.predict import canonical_views, checkpoint_hashes, predict_runs, prepared_of
from maskfold.predictions import mean
from maskfold.training.runs import FULL, RunFolder, code_state
from maskfold.training.summary import selection


def submissions_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Where submissions go: SM_OUTPUT_DATA_DIR where it is set, else submissions/."""
    return Path(environ.get("SM_OUTPUT_DATA_DIR") or "submissions")


def make_submission(runs: Sequence[RunFolder], tta: Sequence[str], out: Path) -> dict:
    """Average fold models over folds, views and runs, write `out` and the manifest beside it; returns the manifest.

    The expected score is the out-of-fold score of the same blend with the same views. Raises UserError for runs on
    different eval photos, and where the result would not be info.csv with answers.
    """
    if out.suffix != ".csv":
        raise UserError(f"--out {out}: a name ending in .csv is expected")
    names = [run.folder.resolve() for run in runs]
    if len(set(names)) < len(names):
        raise UserError("a run is named twice; name each member once")
    views = canonical_views(tta)
    datasets = [prepared_of(run) for run in runs]
    first = datasets[0]
    predicted = predict_runs(runs, datasets, views)
    for run, (evaluation, _) in zip(runs, predicted, strict=True):
        if set(evaluation.image_id) != set(first.evaluation.image_id):
            raise UserError(
                f"{run.folder}: was made for other eval photos than {runs[0].folder}; blend runs on the same data"
            )
    info = Path(first.meta["eval"]) / "info.csv"
    blend = mean([evaluation for evaluation, _ in predicted])
    ids = read_table(info, EVAL_COLUMNS).ImageID.to_numpy()
    if set(ids) != set(blend.image_id):
        raise UserError(f"{info}: its ids have changed since the data was prepared; prepare and train again")
    answers = pd.DataFrame({"ImageID": ids, "ans": blend.aligned(ids).answers})

    oof = mean([oof for _, oof in predicted])
    people = len(set(oof.person_id))
    manifest = {
        "name": out.stem,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "members": [_member(run) for run in runs],
        "weights": [1 / len(runs)] * len(runs),
        "tta": list(views),
        "expected": {
            "macro_f1": macro_f1(oof.label, oof.answers),
            "people": people,
            **intervals(oof.label, oof.answers, oof.person_id, first.eval_people),
        },
        "dataset": first.meta["fingerprint"],
        "eval": first.meta["eval_fingerprint"],
        "git_commit": code_state()["git_commit"],
    }

    def write(beside: Path) -> None:
        answers.to_csv(beside, index=False)
        check_submission(beside, info)

    # All that can fail has been done: the file and what it is made of are written together.
    write_atomic(out, write)
    manifest["csv_sha256"] = sha256(out)
    write_json(out.with_suffix(".json"), manifest)
    if people < len(first.folds):
        print(f"note: the expected score is of {people} of {len(first.folds)} people, whom all members left out")
    return manifest


def _member(run: RunFolder) -> dict:
    hashes = checkpoint_hashes(run)
    return {
        "run": run.name,
        "folds": run.finished_folds,
        # Trained on everybody and predicted together with the folds; the expected score knows the folds alone.
        "refit": FULL in hashes,
        "checkpoints": hashes,
        "config_hash": config_hash(run.config),
        "selection": selection(run.config),
    }
