"""Make a submission from runs: a CSV that is checked against info.csv, and its manifest."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.config.experiment import selects_on_validation
from maskfold.data.catalog import read_info
from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.fileio import sha256, write_atomic, write_json
from maskfold.inference.blend import Blend, blend_runs
from maskfold.inference.cached_predictions import checkpoint_hashes
from maskfold.inference.ensemble_gain import load_gain
from maskfold.inference.expected_score import expect_blend
from maskfold.inference.submission_csv import check_out, check_submission
from maskfold.inference.submission_index import add_to_index, read_index
from maskfold.inference.suspicious_submission import NEAR_IDENTICAL, agreements, unlikely_shares
from maskfold.inference.unchanged_inputs import inputs_record, submission_inputs
from maskfold.loading.photo_shift import check_shift
from maskfold.metrics.bootstrap import score_intervals
from maskfold.metrics.scores import macro_f1
from maskfold.models.tta import canonical_views
from maskfold.places import recorded_path
from maskfold.runs.code_state import code_state
from maskfold.runs.run_folder import FULL, RunFolder
from maskfold.runs.summary import SELECTED, selection

# Maximum number of names that a warning lists.
MAX_NAMES = 5


def make_submission(
    runs: Sequence[RunFolder], tta: Sequence[str], out: Path, blend: str = "mean", decision: str = "argmax"
) -> tuple[dict, Blend, list[str]]:
    """Blend runs over folds and TTA views; write the CSV `out`, its manifest and the folder's index.

    Returns (manifest, blend, warnings and notes to print). The expected score starts from the cross-fitted out-of-fold
    score of the same blend with the same views, see expected_score.py. Raises UserError if the runs have different
    data or folds, or if info.csv has changed.
    """
    # This check comes before the predictions, which may take an hour.
    check_out(out)
    names = [run.folder.resolve() for run in runs]
    if len(set(names)) < len(names):
        raise UserError("a run is given twice; give each run once")
    views = canonical_views(tta, "--tta")
    hashes = [checkpoint_hashes(run) for run in runs]
    blended = blend_runs(runs, views, blend, decision)
    oof, prepared, oof_labels = blended.oof, blended.prepared, blended.cross_fitted.pred_labels
    repeats_gain = load_gain(runs)
    table, info = submission_table(blended.eval_predictions.image_id, blended.pred_labels, prepared)
    people = len(set(oof.person_id))
    shift, messages = check_shift(prepared)
    inputs, members = submission_inputs(runs, views, blend, decision), [_member(run) for run in runs]
    manifest = {
        "name": out.stem,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "members": members,
        "blend": blend,
        "weights": blended.params.weights,
        "temperatures": blended.params.temperatures,
        "decision": "argmax" if blended.params.factors is None else decision,
        "factors": blended.params.factors,
        "tta": list(views),
        "expected": {
            "macro_f1": macro_f1(oof.label, oof_labels),
            "people": people,
            **score_intervals(oof.label, oof_labels, oof.person_id, prepared.num_eval_people),
            "mean_of_folds": repeats_gain,
            **expect_blend(blended, repeats_gain),
        },
        "shift": shift,
        "dataset": prepared.meta["fingerprint"],
        "eval": prepared.meta["eval_fingerprint"],
        "skipped": skipped_rows(prepared),
        "git_commit": code_state()["git_commit"],
    }
    read_index(out.parent)
    # Everything that is likely to fail comes before this, so that hardly any failure leaves a CSV without its manifest.
    write_submission(out, table, info)
    manifest["csv_sha256"] = sha256(out)
    # If models were trained again during the prediction, the key `inputs` is left out, so that the next command makes
    # the submission again.
    if inputs is not None and [member["checkpoints"] for member in members] == hashes:
        manifest["inputs"] = inputs_record(inputs, manifest)
    write_json(out.with_suffix(".json"), manifest)
    add_to_index(out.parent, manifest)
    messages += [f"warning: {line}" for line in unlikely_shares(table.ans.to_numpy(), prepared)]
    if skipped := manifest["skipped"]:
        ids = skipped["image_id"]
        photos, verb = ("1 eval photo", "is") if len(ids) == 1 else (f"{len(ids)} eval photos", "are")
        messages.append(
            f"warning: {photos} cannot be read ({', '.join(ids[:MAX_NAMES])}{', ...' * (len(ids) > MAX_NAMES)}) and "
            f"{verb} given label {skipped['ans']}, the most frequent class of the training photos"
        )
    for name, share in agreements(out, manifest["eval"]):
        prefix = "warning: nearly the same as" if share >= NEAR_IDENTICAL else "compared with"
        messages.append(f"{prefix} submission {name}: {share:.1%} of the labels are equal")
    if selected := [run.name for run in runs if selects_on_validation(run.config)]:
        messages.append(f"note: the expected score is optimistically biased: {', '.join(selected)}: {SELECTED}")
    if people < len(prepared.folds):
        messages.append(
            f"note: the expected score is computed on {people} of {len(prepared.folds)} people, those that every "
            "member predicts out-of-fold"
        )
    return manifest, blended, messages


def submission_table(image_id: np.ndarray, pred_labels: np.ndarray, prepared: Prepared) -> tuple[pd.DataFrame, Path]:
    """Return (table of ImageID and ans in the order of info.csv, path of info.csv).

    Raises UserError if the ids in info.csv have changed.
    """
    info = prepared.eval_dir / "info.csv"
    ids = read_info(info, info.parent / "images").ImageID.to_numpy()
    if skipped := skipped_rows(prepared):
        pred_labels = np.append(pred_labels, [skipped["ans"]] * len(skipped["image_id"]))
        image_id = np.append(image_id, skipped["image_id"])
    if set(ids) != set(image_id):
        raise UserError(
            f"{info}: its ids have changed since the data was prepared, or this is a different data set; set "
            f"--data.root to the data folder from which {prepared.folder} was prepared, or prepare the data and train "
            "again"
        )
    by_id = pd.Series(pred_labels, index=image_id)
    return pd.DataFrame({"ImageID": ids, "ans": by_id.loc[ids].to_numpy()}), info


def skipped_rows(prepared: Prepared) -> dict | None:
    """Return {image_id: ids of the eval photos that cannot be read, ans: the label they get}; None if all are read."""
    if not (ids := prepared.skipped_eval_ids):
        return None
    return {"image_id": ids, "ans": int(prepared.images.label.mode()[0])}


def write_submission(
    out: Path, table: pd.DataFrame, info: Path, check: Callable[[Path], None] = lambda path: None
) -> None:
    """Write a submission to a temporary file, check it against info.csv and with `check`, then move it to `out`.

    If a check raises UserError, `out` is not changed.
    """

    def write(temporary: Path) -> None:
        table.to_csv(temporary, index=False)
        check_submission(temporary, info)
        check(temporary)

    write_atomic(out, write)


def _member(run: RunFolder) -> dict:
    hashes = checkpoint_hashes(run)
    return {
        "run": run.name,
        "folder": str(recorded_path(run.folder)),
        "folds": run.finished_folds,
        # The refit takes part in the prediction, but the expected score is that of the fold models alone.
        "refit": FULL in hashes,
        "checkpoints": hashes,
        "config_hash": run.provenance["config_hash"],
        "selection": selection(run.config),
    }
