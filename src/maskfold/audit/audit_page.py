"""The audit's page: suspects by axis with their photos, and people who are there twice."""

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd

from maskfold.audit.label_noise import PROPOSED, SURE, Contamination
from maskfold.data.images_table import Prepared
from maskfold.labels import AGE_BORDERS, KIND_MASK, MASKS
from maskfold.loading.store import Store
from maskfold.pages.html_page import note, page, photo, section

# People that an axis shows at least; what is proposed is shown whole.
SHOWN = 12
# The photo that a person is known by, one with a mask, and the two that may be exchanged.
PORTRAIT = next(kind for kind, mask in KIND_MASK.items() if MASKS[mask] == "not worn")
MASKED = next(iter(KIND_MASK))
ODD = tuple(kind for kind, mask in KIND_MASK.items() if mask)


def evidence(row) -> str:
    """Of a row of suspects(), in words."""
    words = f"{row.photos_against} of {row.photos} photos say {row.suggested}"
    words += "" if np.isnan(row.p_wrong) else f"; probability {row.p_wrong:.2f}"
    if row.confident_learning is not None:
        words += "; confident learning " + ("agrees" if row.confident_learning else "does not")
    return words


def said_of(axis: str, fit: Contamination, table: pd.DataFrame) -> str:
    """An axis in a sentence; table: its rows of suspects()."""
    if axis not in PROPOSED:
        borders = " and ".join(map(str, AGE_BORDERS))
        return f"{axis}: ranked only; near {borders} the models err where labels are right, so nothing is proposed"
    against = f"{(table.photos_against == table.photos).sum()} people are contradicted by all their photos"
    if fit.evidence <= SURE:
        return f"{axis}: wrong labels can't be told from the models' own doubt; {against}; proposed: 0"
    rate = f"an estimated {fit.rate:.1%} of {len(table)} people are labelled wrongly"
    return f"{axis}: {rate}; {against}; proposed: {table.proposed.sum()}"


def audit_page(
    name: str,
    found: pd.DataFrame,
    fits: dict[str, Contamination],
    twice: pd.DataFrame,
    prepared: Prepared,
    store: Store,
) -> str:
    """found, fits: of suspects(); twice: of find_duplicates(), with same_fold and same_labels."""
    row_of = {image_id: row for row, image_id in enumerate(prepared.images.image_id)}

    def cell(people: Sequence[str], kinds: Sequence[str], words: str) -> str:
        ids = [f"{person}/{kind}" for person in people for kind in kinds]
        shown = "".join(photo(store[row_of[image_id]], image_id) for image_id in ids if image_id in row_of)
        names = "<br>".join(f"<code>{escape(person)}</code>" for person in people)
        return f"<figure class='pair'>{shown}<figcaption>{names}<br>{words}</figcaption></figure>"

    sections = [f"<h1>Audit: {escape(name)}</h1>"]
    for axis in found.axis.unique():
        table = found[found.axis == axis]
        cells = [
            cell(
                [row.person_id],
                ODD if axis == "mask" else (MASKED, PORTRAIT),
                f"{row.rank}. is {escape(row.given)}, {escape(evidence(row))}"
                + ("<br><b>proposed</b>" if row.proposed else ""),
            )
            for row in table.head(max(SHOWN, int(table.proposed.sum()))).itertuples()
        ]
        sections.append(section(axis.capitalize(), note(said_of(axis, fits[axis], table)) + _row(cells)))
    cells = [
        cell(
            [row.person_a, row.person_b],
            [PORTRAIT],
            f"likeness {row.likeness:.2f}, {row.points} points; {'one fold' if row.same_fold else '<b>two folds</b>'}, "
            f"{'the same labels' if row.same_labels else '<b>different labels</b>'}",
        )
        for row in twice.itertuples()
    ]
    sections.append(section("People there twice", _row(cells) if cells else note("There are none.")))
    return page(f"Audit: {name}", sections)


def _row(cells: Sequence[str]) -> str:
    return f"<div class='row'>{''.join(cells)}</div>"
