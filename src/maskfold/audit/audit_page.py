"""The audit page: suspected label errors by axis and duplicate people, with photos."""

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd

from maskfold.audit.contamination import MIN_EVIDENCE, Contamination
from maskfold.audit.label_noise import CORRECTABLE_AXES
from maskfold.data.images_table import Prepared
from maskfold.labels import AGE_BORDERS, KIND_MASK, MASKS
from maskfold.loading.store import Store
from maskfold.pages.html_page import Section, note, page, photo

# Number of people shown per axis. If more corrections are proposed, all people with a proposal are shown.
MIN_SHOWN = 12
# File stems: the photo without a mask, one with a mask, and the two photos whose names are sometimes swapped.
PORTRAIT = next(kind for kind, mask in KIND_MASK.items() if MASKS[mask] == "not worn")
MASKED = next(iter(KIND_MASK))
SWAPPABLE_KINDS = tuple(kind for kind, mask in KIND_MASK.items() if mask)

RANKING_HINT = "People are sorted by how strongly the out-of-fold predictions contradict their label; "
SUSPECTS_HINT = {
    "gender": RANKING_HINT + "look at the photos before you accept a correction.",
    "age": RANKING_HINT + "a photo does not show the exact age, so decide only clear cases.",
    "mask": RANKING_HINT + "each person is shown with the two photos whose file names have possibly been swapped.",
}
DUPLICATES_HINT = (
    "Each pair shows two person ids with the same portrait, the most similar first; a pair in different folds puts one "
    "person into training and validation, which makes the score optimistically biased."
)


def evidence(row) -> str:
    """Describe the evidence in a row of find_suspects(). The text is the `reason` in corrections.csv."""
    predicted = "the class of the other photo" if row.axis == "mask" else row.suggested
    return f"{row.photos_against} of {row.photos} photos are predicted as {predicted}{_support(row)}"


def _support(row) -> str:
    text = "" if np.isnan(row.p_wrong) else f"; probability {row.p_wrong:.2f}"
    if row.confident_learning is not None:
        text += "; confident learning " + ("agrees" if row.confident_learning else "disagrees")
    return text


def axis_summary(axis: str, fit: Contamination, table: pd.DataFrame) -> str:
    """Summarise an axis in one sentence; fit, table: the axis's fit and rows from find_suspects()."""
    if axis not in CORRECTABLE_AXES:
        borders = " and ".join(map(str, AGE_BORDERS))
        reason = f"; {fit.unfitted_reason}" if fit.unfitted_reason else ""
        return f"{axis}: ranked only, because models are often wrong near {borders} years{reason}; proposed: 0"
    if fit.unfitted_reason:
        reason = f"wrong labels cannot be distinguished from errors of the models, since {fit.unfitted_reason}"
        return f"{axis}: {reason}; proposed: 0"
    contradicted = f"all photos of {(table.photos_against == table.photos).sum()} people contradict the label"
    if fit.evidence <= MIN_EVIDENCE:
        return f"{axis}: no evidence of wrong labels beyond the errors of the models; {contradicted}; proposed: 0"
    rate = f"an estimated {fit.rate:.1%} of {len(table)} people have a wrong label"
    return f"{axis}: {rate}; {contradicted}; proposed: {table.proposed.sum()}"


def audit_page(
    name: str,
    suspects: pd.DataFrame,
    fits: dict[str, Contamination],
    pairs: pd.DataFrame,
    prepared: Prepared,
    store: Store,
) -> str:
    """Build the HTML page.

    suspects, fits: results of find_suspects(); pairs: result of find_duplicates() with two more columns, same_fold and
    same_labels.
    """
    row_of = {image_id: row for row, image_id in enumerate(prepared.images.image_id)}

    def cell(people: Sequence[str], kinds: Sequence[str], caption: str) -> str:
        ids = [f"{person}/{kind}" for person in people for kind in kinds]
        photos = "".join(photo(store[row_of[image_id]], image_id) for image_id in ids if image_id in row_of)
        names = "<br>".join(f"<code>{escape(person)}</code>" for person in people)
        return f"<figure class='pair'>{photos}<figcaption>{names}<br>{caption}</figcaption></figure>"

    sections = []
    for axis in suspects.axis.unique():
        table = suspects[suspects.axis == axis]
        cells = [
            cell(
                [row.person_id],
                SWAPPABLE_KINDS if axis == "mask" else (MASKED, PORTRAIT),
                f"{row.rank}. label: {escape(row.given)}; predicted: {escape(row.suggested)} "
                f"({row.photos_against} of {row.photos} photos){escape(_support(row))}"
                + ("<br><b>correction proposed</b>" if row.proposed else ""),
            )
            for row in table.head(max(MIN_SHOWN, int(table.proposed.sum()))).itertuples()
        ]
        body = note(axis_summary(axis, fits[axis], table)) + _row(cells)
        sections.append(Section(f"Suspected {axis} labels", body, SUSPECTS_HINT[axis]))
    cells = [
        cell(
            [row.person_a, row.person_b],
            [PORTRAIT],
            f"likeness {row.likeness:.2f}, {row.points} matching points; "
            f"{'same fold' if row.same_fold else '<b>different folds</b>'}, "
            f"{'same labels' if row.same_labels else '<b>different labels</b>'}",
        )
        for row in pairs.itertuples()
    ]
    body = _row(cells) if cells else note("No duplicate people were found.")
    sections.append(Section("Duplicate people", body, DUPLICATES_HINT))
    return page(f"Label audit: {name}", sections)


def _row(cells: Sequence[str]) -> str:
    return f"<div class='row'>{''.join(cells)}</div>"
