"""Ensemble -> submission.csv, checked against info.csv, and the manifest that says what made it."""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.config.experiment import config_hash
from maskfold.data.images_table import Prepared
from maskfold.data.raw_csv import EVAL_COLUMNS, read_table
from maskfold.errors import UserError
from maskfold.fileio import sha256, write_atomic, write_json
from maskfold.inference.answer_csv import check_submission
from maskfold.inference.blend import Blend, blend_runs
from maskfold.inference.cache import checkpoint_hashes
from maskfold.inference.ensemble_gain import gain_of_folds
from maskfold.inference.submission_checks import NEAR_IDENTICAL, agreements, unlikely_shares
from maskfold.inference.submission_index import add_to_index, read_index
from maskfold.metrics.bootstrap import intervals
from maskfold.metrics.scores import macro_f1
from maskfold.models.tta import canonical_views
from maskfold.runs.code_state import code_state
from maskfold.runs.run_folder import FULL, RunFolder
from maskfold.runs.summary import selection


def submissions_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Where submissions go: SM_OUTPUT_DATA_DIR where it is set, else submissions/."""
    return Path(environ.get("SM_OUTPUT_DATA_DIR") or "submissions")


def make_submission(
    runs: Sequence[RunFolder], tta: Sequence[str], out: Path, blend: str = "mean", decision: str = "argmax"
) -> tuple[dict, Blend, list[str]]:
    """Blend fold models over folds, views and runs, write `out`, the manifest beside it and the folder's index.

    Returns (manifest, blend, what to tell). The expected score is the out-of-fold score of the same blend with the
    same views, of people that nothing was fitted on.
    Raises UserError for members that do not belong together, and where the result would not be info.csv with answers.
    """
    if out.suffix != ".csv":
        raise UserError(f"--out {out}: a name ending in .csv is expected")
    names = [run.folder.resolve() for run in runs]
    if len(set(names)) < len(names):
        raise UserError("a run is named twice; name each member once")
    views = canonical_views(tta, "--tta")
    found = blend_runs(runs, views, blend, decision)
    answers, info = answer_table(found.evaluation.image_id, found.pred_labels, found.prepared)
    oof, prepared, said = found.oof, found.prepared, found.crossed.pred_labels
    people = len(set(oof.person_id))
    manifest = {
        "name": out.stem,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "members": [_member(run) for run in runs],
        "blend": blend,
        "weights": found.fitted.weights,
        "temperatures": found.fitted.temperatures,
        "decision": "argmax" if found.fitted.factors is None else decision,
        "factors": found.fitted.factors,
        "tta": list(views),
        "expected": {
            "macro_f1": macro_f1(oof.label, said),
            "people": people,
            **intervals(oof.label, said, oof.person_id, prepared.num_eval_people),
            "mean_of_folds": gain_of_folds(runs),
        },
        "dataset": prepared.meta["fingerprint"],
        "eval": prepared.meta["eval_fingerprint"],
        "git_commit": code_state()["git_commit"],
    }
    read_index(out.parent)
    # All that can fail has been done: the file and what it is made of are written together.
    write_answers(out, answers, info)
    manifest["csv_sha256"] = sha256(out)
    write_json(out.with_suffix(".json"), manifest)
    add_to_index(out.parent, manifest)
    told = [f"warning: {line}" for line in unlikely_shares(answers.ans.to_numpy(), prepared)]
    for name, share in agreements(out, manifest["eval"]):
        how = "warning: nearly the same as" if share >= NEAR_IDENTICAL else "agrees with"
        told.append(f"{how} {name} in {share:.1%} of the answers")
    if people < len(prepared.folds):
        told.append(
            f"note: the expected score is of {people} of {len(prepared.folds)} people, whom all members left out"
        )
    return manifest, found, told


def answer_table(image_id: np.ndarray, answers: np.ndarray, prepared: Prepared) -> tuple[pd.DataFrame, Path]:
    """(ImageID and ans in info.csv's order, info.csv)."""
    info = Path(prepared.meta["eval"]) / "info.csv"
    ids = read_table(info, EVAL_COLUMNS).ImageID.to_numpy()
    if set(ids) != set(image_id):
        raise UserError(f"{info}: its ids have changed since the data was prepared; prepare and train again")
    by_id = pd.Series(answers, index=image_id)
    return pd.DataFrame({"ImageID": ids, "ans": by_id.loc[ids].to_numpy()}), info


def write_answers(
    out: Path, answers: pd.DataFrame, info: Path, check: Callable[[Path], None] = lambda path: None
) -> None:
    """Write a submission. Raises UserError, nothing written, where it is not info.csv with answers, or `check` does."""

    def write(beside: Path) -> None:
        answers.to_csv(beside, index=False)
        check_submission(beside, info)
        check(beside)

    write_atomic(out, write)


def _member(run: RunFolder) -> dict:
    hashes = checkpoint_hashes(run)
    return {
        "run": run.name,
        "folder": str(run.folder.resolve()),
        "folds": run.finished_folds,
        # Trained on everybody and predicted together with the folds; the expected score knows the folds alone.
        "refit": FULL in hashes,
        "checkpoints": hashes,
        "config_hash": config_hash(run.config),
        "selection": selection(run.config),
    }
