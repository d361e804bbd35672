"""Who is served worse, and why, in plain sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

from maskfold.audit.label_noise import SURE, Contamination
from maskfold.data.images_table import Prepared
from maskfold.labels import stratum
from maskfold.loading.store import Store
from maskfold.probabilities import OutOfFold
from maskfold.report.group_scores import ERRORS, alike, groups

# A group's share of wrong labels, or its photos' look, is named as a reason where it stands out so far: in shares of
# people, and in standard deviations of all people's.
MORE_WRONG, FAR = 0.02, 0.5
# A group is called small under this share of what equal groups would have.
SMALL = 0.5


@dataclass(frozen=True)
class Circumstances:
    """What may be why a group is served worse, [P] each: a probability that the label is wrong; how the photos look."""

    person_id: np.ndarray
    p_wrong: np.ndarray
    looks: dict[str, np.ndarray]


def circumstances(
    found: pd.DataFrame, fits: dict[str, Contamination], prepared: Prepared, store: Store
) -> Circumstances:
    """Of suspects() and the stored photos. A label is wrong if it is on any axis where wrong labels are evident."""
    evident = found[found.axis.map(lambda axis: fits[axis].evidence > SURE) & found.p_wrong.notna()]
    right = (1 - evident.p_wrong).groupby(evident.person_id).prod()
    people = np.unique(found.person_id)
    images = prepared.images
    rows = np.flatnonzero(images.person_id.isin(people))
    grey = (cv2.cvtColor(store[row], cv2.COLOR_RGB2GRAY) for row in rows.tolist())
    looks = np.array([(photo.mean(), cv2.Laplacian(photo, cv2.CV_32F).std()) for photo in grey])
    means = pd.DataFrame(looks, columns=["brightness", "sharpness"]).groupby(images.person_id.to_numpy()[rows]).mean()
    return Circumstances(
        people,
        1 - right.reindex(people, fill_value=1.0).to_numpy(),
        {name: means[name].reindex(people).to_numpy() for name in means},
    )


def findings(table: pd.DataFrame, oof: OutOfFold, known: Circumstances) -> list[str]:
    """Sentences, of the groups that are served worse than everybody else, the surest large gap first.

    A group counts where its most_gap, which holds for all groups at once, is under 0. One of both gender and age that
    has all the people of a wider one is told with it.
    """
    worse = table[table.most_gap < 0].sort_values("most_gap", kind="stable")
    told = [name for name in worse.index if not any(table.people[name] == table.people.get(w) for w in _wider(name))]
    return [_finding(name, table.loc[name], taken_for(name, oof), why(name, table, oof, known)) for name in told]


def _wider(name: str) -> list[str]:
    """Of a group of both gender and age the two that it is a part of."""
    return name.split(", ") if ", " in name else []


def taken_for(name: str, oof: OutOfFold) -> str:
    """The group of its kind that the wrong answers to a group's photos name most often."""
    classes = groups()
    wrong = oof.pred_labels[np.isin(oof.label, classes[name]) & (oof.pred_labels != oof.label)]
    return max(alike(name), key=lambda other: np.isin(wrong, classes[other]).sum())


def _finding(name: str, row: pd.Series, other: str, reasons: Sequence[str]) -> str:
    kinds = {"mask_wrong": "the mask", "gender_wrong": "the gender", "too_young": "an age too young"}
    kinds |= {"too_old": "an age too old"}
    most = max(ERRORS, key=lambda kind: row[kind])
    low, high = row.gap_ci95
    said = f"{name}: {row.accuracy:.1%} of its photos are answered rightly, {-100 * row.gap:.1f} percentage points less"
    said += f" than of everybody else [{-100 * high:.1f}, {-100 * low:.1f}]; most often wrong is {kinds[most]} "
    said += f"({row[most]:.1%}" + (")." if other == name else f"), mostly taken for {other}.")
    if row.overconfidence_ci95[0] > 0:
        said += f" The models are surer of their answers than right, by {row.overconfidence:.1%}."
    return (
        f"{said} {'; '.join(reasons).capitalize()}."
        if reasons
        else f"{said} Neither support, labels nor photos tell why."
    )


def why(name: str, table: pd.DataFrame, oof: OutOfFold, known: Circumstances) -> list[str]:
    """What stands out of support, labels and photos."""
    people, first = np.unique(oof.person_id, return_index=True)
    mine = np.isin(stratum(oof.label[first]), _strata(name))
    place = pd.Index(known.person_id).get_indexer(people)
    found, share = [], table.people[name] / len(people)
    if share < SMALL / len(alike(name)):
        found.append(f"support: {table.people[name]:,} of {len(people):,} people are of this group ({share:.1%})")
    wrong = known.p_wrong[place]
    if mine.all():
        return found
    if wrong[mine].mean() - wrong[~mine].mean() > MORE_WRONG:
        found.append(
            f"labels: an estimated {wrong[mine].mean():.1%} of them are wrong, of all others {wrong[~mine].mean():.1%}"
        )
    for look, values in known.looks.items():
        values = values[place]
        by = (values[mine].mean() - values[~mine].mean()) / max(values.std(), 1e-12)
        if abs(by) > FAR:
            found.append(f"photos: their {look} differs from the others' by {by:+.1f} standard deviations")
    return found


def _strata(name: str) -> list[int]:
    return np.unique(stratum(groups()[name])).tolist()
