"""The sections of the report on performance by age, by photo type and by group, as HTML."""

from html import escape

import numpy as np
import pandas as pd

from maskfold.data.images_table import Prepared
from maskfold.labels import AXES, KIND_MASK, decode_label
from maskfold.loading.store import Store
from maskfold.metrics.bootstrap import score_intervals
from maskfold.metrics.group_scores import ERRORS, scores_by_group
from maskfold.metrics.score_text import ci_text
from maskfold.metrics.scores import scores
from maskfold.pages.figures import accuracy_by_age, group_intervals
from maskfold.pages.html_page import figure, note, table
from maskfold.probabilities import OutOfFold
from maskfold.report.group_findings import group_findings, possible_causes


def age_and_photo_section(oof: OutOfFold, prepared: Prepared) -> str:
    """HTML: accuracy by age in years, and accuracy of the class and of each axis by photo type (file stem)."""
    ages = prepared.images.age.to_numpy()[prepared.row_indices(oof.image_id)]
    is_correct = [
        true == pred for true, pred in zip(decode_label(oof.label), decode_label(oof.pred_labels), strict=True)
    ]
    chart = accuracy_by_age(ages, oof.pred_labels == oof.label, is_correct[list(AXES).index("age")])
    rows, kinds = [], np.array([name.rpartition("/")[2] for name in oof.image_id])
    for kind in KIND_MASK:
        is_kind = kinds == kind
        if is_kind.any():
            labels, predicted = oof.label[is_kind], oof.pred_labels[is_kind]
            accuracy = scores(labels, predicted)["accuracy"]
            bounds = score_intervals(labels, predicted, oof.person_id[is_kind], 0)["accuracy_ci95"]
            rows.append(
                [kind, f"{accuracy:.4f}", ci_text(bounds), *(f"{axis[is_kind].mean():.4f}" for axis in is_correct)]
            )
    header = ["photo type", "accuracy", "95 %", *(f"{axis} accuracy" for axis in AXES)]
    return figure(chart, "Accuracy by age in years") + table("Accuracy by photo type", header, rows)


def group_section(oof: OutOfFold, prepared: Prepared, store: Store, suspects: pd.DataFrame, fits: dict) -> str:
    """HTML: groups with significantly lower accuracy, and scores of all groups. suspects, fits: see find_suspects."""
    groups = scores_by_group(oof)
    findings = group_findings(groups, oof, possible_causes(suspects, fits, prepared, store))
    items = "".join(f"<li>{escape(finding)}</li>" for finding in findings)
    summary = f"<ol>{items}</ol>" if findings else note("No group has significantly lower accuracy.")
    rows = [
        [
            name,
            f"{row.people:,}",
            *(f"{row[key]:.4f} {ci_text(row[f'{key}_ci95'], 3)}" for key in ("accuracy", "f1", "overconfidence")),
            f"{row.calibration_error:.4f}",
            *(f"{row[kind]:.1%}" for kind in ERRORS),
        ]
        for name, row in groups.iterrows()
    ]
    header = ["group", "people", "accuracy", "mean F1 of its classes", "overconfidence", "calibration error (ECE)"]
    header += [kind.replace("_", " ") for kind in ERRORS]
    return (
        summary
        + figure(group_intervals(groups), "Accuracy of each group with its 95 % interval")
        + table("Scores by group; the last four columns are shares of the photos", header, rows)
    )
