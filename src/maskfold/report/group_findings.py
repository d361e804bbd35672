"""Groups with significantly lower accuracy than all other people, and possible causes, as plain sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

from maskfold.audit.label_noise import MIN_EVIDENCE, Contamination
from maskfold.data.images_table import Prepared
from maskfold.labels import stratum
from maskfold.loading.store import Store
from maskfold.metrics.group_scores import ERRORS, classes_by_group, groups_of_same_kind
from maskfold.probabilities import OutOfFold

# Minimum difference between a group and all other people for a possible cause to be reported: in the share of wrong
# labels (0 to 1), and in mean brightness or sharpness (in standard deviations over all people).
MIN_LABEL_ERROR_DIFFERENCE, MIN_PHOTO_DIFFERENCE = 0.02, 0.5
# A group is reported as small if it has fewer people than this fraction of the mean size of the groups of its kind.
MAX_SMALL_SHARE = 0.5


@dataclass(frozen=True)
class PossibleCauses:
    """Measurements per person that may explain a lower accuracy, [P] each.

    p_wrong: probability that at least one label is wrong; photo_means: "brightness" and "sharpness" -> the mean over
    the person's photos.
    """

    person_id: np.ndarray
    p_wrong: np.ndarray
    photo_means: dict[str, np.ndarray]


def possible_causes(
    suspects: pd.DataFrame, fits: dict[str, Contamination], prepared: Prepared, store: Store
) -> PossibleCauses:
    """Measure the possible causes: p_wrong from the results of find_suspects(), photo_means from the stored photos.

    p_wrong covers only the axes with evidence of wrong labels.
    """
    has_evidence = suspects.axis.map(lambda axis: fits[axis].evidence > MIN_EVIDENCE)
    evident = suspects[has_evidence & suspects.p_wrong.notna()]
    p_correct = (1 - evident.p_wrong).groupby(evident.person_id).prod()
    people = np.unique(suspects.person_id)
    images = prepared.images
    rows = np.flatnonzero(images.person_id.isin(people))
    greys = (cv2.cvtColor(store[row], cv2.COLOR_RGB2GRAY) for row in rows.tolist())
    values = np.array([(grey.mean(), cv2.Laplacian(grey, cv2.CV_32F).std()) for grey in greys])
    means = pd.DataFrame(values, columns=["brightness", "sharpness"]).groupby(images.person_id.to_numpy()[rows]).mean()
    return PossibleCauses(
        people,
        1 - p_correct.reindex(people, fill_value=1.0).to_numpy(),
        {name: means[name].reindex(people).to_numpy() for name in means},
    )


def group_findings(table: pd.DataFrame, oof: OutOfFold, causes: PossibleCauses) -> list[str]:
    """One paragraph per group with significantly lower accuracy than all other people, lowest gap_upper95 first.

    table: the result of scores_by_group. The accuracy is significantly lower if gap_upper95 is below 0. A combination
    of gender and age that contains all people of its gender or age group is left out, because the gender or age group
    itself is reported.
    """
    worse = table[table.gap_upper95 < 0].sort_values("gap_upper95", kind="stable")
    names = [
        name for name in worse.index if not any(table.people[name] == table.people.get(part) for part in _parts(name))
    ]
    return [
        _finding(name, table.loc[name], most_predicted_group(name, oof), reasons(name, table, oof, causes))
        for name in names
    ]


def _parts(name: str) -> list[str]:
    """Return the names of the gender and the age group of a combination; an empty list for any other group."""
    return name.split(", ") if ", " in name else []


def most_predicted_group(name: str, oof: OutOfFold) -> str:
    """Return the group of the same kind as `name` into which incorrect predictions for `name` fall most often."""
    classes = classes_by_group()
    errors = oof.pred_labels[np.isin(oof.label, classes[name]) & (oof.pred_labels != oof.label)]
    return max(groups_of_same_kind(name), key=lambda other: np.isin(errors, classes[other]).sum())


def _finding(name: str, row: pd.Series, other: str, causes: Sequence[str]) -> str:
    kinds = {"mask_wrong": "mask", "gender_wrong": "gender", "too_young": "age too young", "too_old": "age too old"}
    most_frequent = max(ERRORS, key=lambda kind: row[kind])
    low, high = row.gap_ci95
    text = (
        f"{name}: accuracy {row.accuracy:.1%}, {-100 * row.gap:.1f} percentage points lower than for all other people"
    )
    text += f" (95 % interval {-100 * high:.1f} to {-100 * low:.1f})."
    text += f" The most frequent error is {kinds[most_frequent]} ({row[most_frequent]:.1%} of the photos)."
    text += "" if other == name else f" The incorrect predictions fall most often into the group {other}."
    if row.overconfidence_ci95[0] > 0:
        text += f" The models are overconfident by {100 * row.overconfidence:.1f} percentage points."
    if not causes:
        return f"{text} Number of people, label errors, brightness and sharpness do not explain the gap."
    return f"{text} Possible causes: {'; '.join(causes)}."


def reasons(name: str, table: pd.DataFrame, oof: OutOfFold, causes: PossibleCauses) -> list[str]:
    """Return one clause per possible cause of a lower accuracy: few people, wrong labels, differences in the photos."""
    people, first = np.unique(oof.person_id, return_index=True)
    is_member = np.isin(stratum(oof.label[first]), _strata(name))
    rows = pd.Index(causes.person_id).get_indexer(people)
    clauses, share = [], table.people[name] / len(people)
    if share < MAX_SMALL_SHARE / len(groups_of_same_kind(name)):
        clauses.append(f"the group is small ({table.people[name]:,} of {len(people):,} people, {share:.1%})")
    if is_member.all():
        return clauses
    p_wrong = causes.p_wrong[rows]
    inside, outside = p_wrong[is_member].mean(), p_wrong[~is_member].mean()
    if inside - outside > MIN_LABEL_ERROR_DIFFERENCE:
        clauses.append(
            f"an estimated {inside:.1%} of its people have a wrong label, compared with {outside:.1%} of all other "
            "people"
        )
    for measure, means in causes.photo_means.items():
        values = means[rows]
        difference = (values[is_member].mean() - values[~is_member].mean()) / max(values.std(), 1e-12)
        if abs(difference) > MIN_PHOTO_DIFFERENCE:
            clauses.append(
                f"the {measure} of its photos differs from that of all other people by {difference:+.1f} standard "
                "deviations"
            )
    return clauses


def _strata(name: str) -> list[int]:
    return np.unique(stratum(classes_by_group()[name])).tolist()
