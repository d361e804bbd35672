"""The labels of prepared photos under other corrections, without preparing them anew."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from maskfold.data.catalog import Catalog, labelled, read_catalog, tell
from maskfold.data.corrections import COLUMNS, SWAPS, apply_corrections
from maskfold.data.images_table import Prepared
from maskfold.data.raw_layout import find_layout
from maskfold.errors import UserError


def relabelled(prepared: Prepared, corrections: Path | None) -> tuple[pd.Series, dict]:
    """Label 0..17 by image_id as the raw data and a corrections file (None: as given) have it, and what was corrected.

    Raises UserError where the raw data is gone or has changed, or for faults in the file.
    """
    catalog = _raw(prepared)
    swapped: Collection[str] = frozenset()
    people, report = catalog.people, {"changed": [], "already_so": 0, "not_in_data": []}
    if corrections is not None:
        people, swapped, report = apply_corrections(people, corrections)
    table = labelled(catalog.images, people, swapped)
    return table.set_index("image_id").label, report


def applied(prepared: Prepared) -> pd.DataFrame:
    """The corrections that made the raw labels those of the prepared folder: person_id, field, value, reason."""
    catalog, rows = _raw(prepared), []
    raw, now = catalog.people.set_index("person_id"), prepared.people.set_index("person_id")
    given = labelled(catalog.images, catalog.people).set_index("image_id")["mask"]
    moved = given.loc[prepared.images.image_id].to_numpy() != prepared.images["mask"]
    exchanged = set(prepared.images.person_id[moved])
    for person in now.index:
        for field in ("gender", "age"):
            if raw.loc[person, field] != now.loc[person, field]:
                rows.append((person, field, str(now.loc[person, field]), "corrected before"))
        if person in exchanged:
            rows.append((person, "swap", SWAPS[0], "corrected before"))
    return pd.DataFrame(rows, columns=COLUMNS)


def _raw(prepared: Prepared) -> Catalog:
    layout = find_layout(Path(prepared.meta["root"]))
    catalog = read_catalog(layout)
    # Of the eval side nothing is asked.
    tell(catalog.train_faults, layout.root)
    images = prepared.images.set_index("image_id")
    changed = set(catalog.images.image_id) ^ set(images.index)
    if not changed and prepared.meta["corrections"] is None:
        labels = labelled(catalog.images, catalog.people).set_index("image_id").label
        changed = set(labels.index[labels != images.label.reindex(labels.index)])
    if changed:
        raise UserError(
            f"{layout.train_csv}: {len(changed)} photos, first {min(changed)}, are no more what they were when "
            f"{prepared.folder} was prepared; prepare the data again (scripts/prepare.py)"
        )
    return catalog
