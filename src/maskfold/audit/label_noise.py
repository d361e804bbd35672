"""Suspected label errors per axis: people whose label contradicts the out-of-fold predictions of their photos."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from maskfold.audit.class_separation import low_recall, low_separation, scaled_by_fold
from maskfold.audit.contamination import MIN_EVIDENCE, Contamination, fit_contamination
from maskfold.data.corrections import SWAPS
from maskfold.labels import AGE_BORDERS, AGE_GROUPS, AXES, KIND_MASK, MASKS, decode_label, marginals
from maskfold.metrics.calibration import MIN_PROB
from maskfold.probabilities import OutOfFold

# Axes for which corrections are proposed. Age is not one, because models are systematically wrong near the borders of
# age groups.
CORRECTABLE_AXES = ("gender", "mask")
COLUMNS: tuple[str, ...] = ("axis", "rank", "person_id", "field", "given", "suggested", "value")
COLUMNS += ("margin", "photos_against", "photos", "p_wrong", "confident_learning", "proposed")


@dataclass(frozen=True)
class Findings:
    """The columns of one axis before people are ranked: each is an array [P], or one value for all people."""

    axis: str
    person_id: np.ndarray
    field: str
    given: np.ndarray | str
    suggested: np.ndarray | str
    value: np.ndarray | str
    margin: np.ndarray
    photos_against: np.ndarray
    photos: np.ndarray
    confident_learning: np.ndarray | None

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(vars(self))


def find_suspects(oof: OutOfFold) -> tuple[pd.DataFrame, dict[str, Contamination]]:
    """Return (table, fits). table: one row per person and axis; in each axis the most suspect person comes first.

    margin: log P(label) - log P(other class), averaged over the person's photos; the other class is the one with the
    highest mean log P. On the mask axis, the two photos incorrect_mask and normal may be exchanged. For each of them,
    log P(its label) - log P(the other photo's label) is computed, and margin is the sum of these two differences.
    Margins are scaled so that the median of their absolute values is the same in all folds (see scaled_by_fold).
    field, value: the suggested correction, in the form of a corrections CSV. If it is the young age group, `value` is
    29, the group's highest age; if it is the old group, 60, its lowest; if it is the middle group, `value` is empty,
    because no single age can be suggested.
    proposed: true on gender and mask if the axis has evidence of wrong labels and p_wrong is above 0.5. Ages are only
    ranked and their p_wrong is NaN, because the models are systematically wrong near the borders of age groups, and the
    fit would report these errors as wrong labels. If the models do not separate the classes of an axis, nothing is
    fitted, p_wrong is NaN and no correction is proposed.
    confident_learning: whether cleanlab (Northcutt et al. 2021) reports the label as wrong; on the mask axis, whether
    it reports the labels of both photos; None if cleanlab is not installed or a class is absent.
    fits: {axis: the fit}.
    """
    people, first, of_photo = np.unique(oof.person_id, return_index=True, return_inverse=True)
    photos = np.bincount(of_photo)
    probs = marginals(oof.probs)
    labels = dict(zip(AXES, (axis[first] for axis in decode_label(oof.label)), strict=True))
    tables, reasons, fits = [], {}, {}
    for axis in ("gender", "age"):
        logs = np.log(np.maximum(probs[axis].astype(np.float64), MIN_PROB))
        means = np.stack([np.bincount(of_photo, weights=column) for column in logs.T], 1) / photos[:, None]
        label, names = labels[axis], np.array(AXES[axis])
        other_means = means.copy()
        other_means[np.arange(len(people)), label] = -np.inf
        other_class = other_means.argmax(1)
        margins = means[np.arange(len(people)), label] - other_means.max(1)
        against = np.bincount(of_photo, weights=probs[axis].argmax(1) == other_class[of_photo]).astype(int)
        flagged = confident_learning(label, np.exp(means) / np.exp(means).sum(1, keepdims=True))
        values = names[other_class] if axis == "gender" else np.array([_age_of_group(group) for group in other_class])
        findings = Findings(
            axis=axis,
            person_id=people,
            field=axis,
            given=names[label],
            suggested=names[other_class],
            value=values,
            margin=margins,
            photos_against=against,
            photos=photos,
            confident_learning=flagged,
        )
        tables.append(findings.table())
        reasons[axis] = low_recall(label, means.argmax(1), dict(enumerate(AXES[axis])), "people")
    tables.append(_swapped_photos(oof, people, of_photo, probs["mask"]))
    swappable = {mask: MASKS[mask] for mask in KIND_MASK.values() if mask}
    reasons["mask"] = low_recall(decode_label(oof.label)[0], probs["mask"].argmax(1), swappable, "photos")
    for (axis, reason), table in zip(reasons.items(), tables, strict=True):
        margins = scaled_by_fold(table.margin.to_numpy(), oof.fold[first][table.index])
        table["margin"] = margins
        fits[axis] = fit_contamination(margins, reason or low_separation(margins))
    suspects = pd.concat(
        [_ranked(table, fits[table.axis.iloc[0]]) for table in tables if len(table)], ignore_index=True
    )
    return suspects[list(COLUMNS)], fits


def _swapped_photos(oof: OutOfFold, people: np.ndarray, of_photo: np.ndarray, probs: np.ndarray) -> pd.DataFrame:
    """Return the rows of the mask axis. The margin is low if incorrect_mask and normal seem to be exchanged.

    Only people with both photos have a row. people: person_ids [P]; of_photo: for each photo, the index of its person
    in `people`, int [N]; probs: probabilities of the mask classes, float [N, 3].
    """
    logs = np.log(np.maximum(probs.astype(np.float64), MIN_PROB))
    mask = decode_label(oof.label)[0]
    rows = np.flatnonzero(mask > 0)
    other_class = MASKS.index("incorrect") + MASKS.index("not worn") - mask[rows]
    margins = np.bincount(of_photo[rows], logs[rows, mask[rows]] - logs[rows, other_class], minlength=len(people))
    against = np.bincount(of_photo[rows], probs[rows].argmax(1) == other_class, minlength=len(people)).astype(int)
    photos = np.bincount(of_photo[rows], minlength=len(people))
    photo_flagged = confident_learning(mask, probs)
    flagged = None
    if photo_flagged is not None:
        flagged = np.bincount(of_photo[rows], photo_flagged[rows], minlength=len(people)) == photos
    kinds = [kind for kind, worn in KIND_MASK.items() if worn]
    findings = Findings(
        axis="mask",
        person_id=people,
        field="swap",
        given="as named",
        suggested=f"{' and '.join(sorted(kinds))} exchanged",
        value=SWAPS[0],
        margin=margins,
        photos_against=against,
        photos=photos,
        confident_learning=flagged,
    )
    return findings.table()[photos == len(kinds)]


def confident_learning(labels: np.ndarray, probs: np.ndarray) -> np.ndarray | None:
    """Whether cleanlab reports each label as wrong, bool [N]; None if cleanlab is not installed or a class is absent.

    labels: int [N]; probs: float [N, C], out-of-fold.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return None
    if len(np.unique(labels)) < probs.shape[1]:
        return None
    probs = probs.astype(np.float64)
    probs /= probs.sum(1, keepdims=True)
    with warnings.catch_warnings():
        # cleanlab warns about classes with few examples, but the data card already reports the size of each class.
        warnings.simplefilter("ignore", UserWarning)
        return find_label_issues(labels, probs, filter_by="prune_by_noise_rate", n_jobs=1)


def _age_of_group(group: int) -> str:
    """Return the highest age of the young group or the lowest age of the old group as text; "" for the middle group."""
    return {0: str(AGE_BORDERS[0] - 1), len(AGE_GROUPS) - 1: str(AGE_BORDERS[-1])}.get(int(group), "")


def _ranked(table: pd.DataFrame, fit: Contamination) -> pd.DataFrame:
    table = table.sort_values("margin", kind="stable").reset_index(drop=True)
    table["rank"] = np.arange(1, len(table) + 1)
    is_correctable = table.axis.isin(CORRECTABLE_AXES)
    table["p_wrong"] = np.where(is_correctable, fit.p_wrong(table.margin.to_numpy()), np.nan)
    table["proposed"] = is_correctable & (table.p_wrong > 0.5) & (fit.evidence > MIN_EVIDENCE)
    return table
