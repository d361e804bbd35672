"""The report's sections on whom a run serves: by age, by photo, and by group with its findings; as HTML."""

from html import escape

import numpy as np
import pandas as pd

from maskfold.data.images_table import Prepared
from maskfold.evaluation.score_tables import interval
from maskfold.labels import AXES, KIND_MASK, decode
from maskfold.loading.store import Store
from maskfold.metrics.bootstrap import intervals
from maskfold.metrics.scores import scores
from maskfold.pages.figures import by_age, group_intervals
from maskfold.pages.html_page import figure, note, table
from maskfold.probabilities import OutOfFold
from maskfold.report.group_findings import circumstances, findings
from maskfold.report.group_scores import ERRORS, by_group


def by_age_and_photo(oof: OutOfFold, prepared: Prepared) -> str:
    ages = prepared.images.age.to_numpy()[prepared.row_indices(oof.image_id)]
    right = [a == b for a, b in zip(decode(oof.label), decode(oof.pred_labels), strict=True)]
    drawn = by_age(ages, oof.pred_labels == oof.label, right[list(AXES).index("age")])
    rows, kinds = [], np.array([name.rpartition("/")[2] for name in oof.image_id])
    for kind in KIND_MASK:
        mine = kinds == kind
        if mine.any():
            found = scores(oof.label[mine], oof.pred_labels[mine])
            bounds = intervals(oof.label[mine], oof.pred_labels[mine], oof.person_id[mine], 0)["accuracy_ci95"]
            rows.append(
                [kind, f"{found['accuracy']:.4f}", interval(bounds), *(f"{part[mine].mean():.4f}" for part in right)]
            )
    head = ["photo", "accuracy", "95 %", *(f"{axis} right" for axis in AXES)]
    return figure(drawn, "Accuracy by age in years") + table(head, rows)


def whom_it_serves(oof: OutOfFold, prepared: Prepared, store: Store, found: pd.DataFrame, fits: dict) -> str:
    groups = by_group(oof)
    said = findings(groups, oof, circumstances(found, fits, prepared, store))
    lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in said)
    summary = f"<ol>{lines}</ol>" if said else note("Of no group this can be told.")
    rows = [
        [
            name,
            f"{row.people:,}",
            *(f"{row[key]:.4f} {interval(row[f'{key}_ci95'], 3)}" for key in ("accuracy", "f1", "overconfidence")),
            f"{row.calibration_error:.4f}",
            *(f"{row[kind]:.1%}" for kind in ERRORS),
        ]
        for name, row in groups.iterrows()
    ]
    head = ["group", "people", "accuracy", "F1 of its classes", "confidence over accuracy", "calibration error"]
    words = (
        "By the labels as given: a group's wrong labels may be those of other groups' people. Who is served worse than "
    )
    words += "everybody else, tested for all groups at once, the surest large gap first:"
    return (
        note(words)
        + summary
        + figure(group_intervals(groups), "Accuracy of each group with its 95 % interval")
        + table([*head, *(kind.replace("_", " ") for kind in ERRORS)], rows)
    )
