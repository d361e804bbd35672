"""Compute the labels of prepared photos with a given corrections file, without preparing the data again."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from maskfold.data.catalog import Catalog, raise_faults, read_catalog, with_labels
from maskfold.data.corrections import CORRECTION_COLUMNS, SWAPS, apply_corrections
from maskfold.data.damaged_photos import skipped_people
from maskfold.data.images_table import Prepared
from maskfold.data.raw_layout import find_layout
from maskfold.errors import UserError


def relabelled(prepared: Prepared, corrections: Path | None) -> tuple[pd.Series, dict]:
    """Compute the labels from the raw data and a corrections file (None: no corrections).

    Returns labels 0..17 indexed by image_id, and the report of apply_corrections. Raises UserError if the raw data is
    missing or has changed, or if the corrections file has faults.
    """
    catalog = _raw(prepared)
    swapped: Collection[str] = frozenset()
    people, report = catalog.people, {"changed": [], "already_so": 0, "not_in_data": []}
    if corrections is not None:
        people, swapped, report = apply_corrections(people, corrections)
    table = with_labels(catalog.images, people, swapped)
    return table.set_index("image_id").label, report


def applied_corrections(prepared: Prepared) -> pd.DataFrame:
    """Return the corrections that turn the raw labels into the prepared ones.

    Columns: person_id, field, value, reason. Raises UserError if the raw data is missing or has changed.
    """
    catalog, rows = _raw(prepared), []
    raw, current = catalog.people.set_index("person_id"), prepared.people.set_index("person_id")
    raw_mask = with_labels(catalog.images, catalog.people).set_index("image_id")["mask"]
    changed = raw_mask.loc[prepared.images.image_id].to_numpy() != prepared.images["mask"]
    swapped_people = set(prepared.images.person_id[changed])
    for person in current.index:
        for field in ("gender", "age"):
            if raw.loc[person, field] != current.loc[person, field]:
                rows.append((person, field, str(current.loc[person, field]), "corrected before"))
        if person in swapped_people:
            rows.append((person, "swap", SWAPS[0], "corrected before"))
    return pd.DataFrame(rows, columns=CORRECTION_COLUMNS)


def _raw(prepared: Prepared) -> Catalog:
    layout = find_layout(prepared.root)
    catalog = read_catalog(layout)
    # Faults of the eval set do not matter for training labels.
    raise_faults(catalog.train_faults, layout.root)
    if skipped := skipped_people(prepared.meta):
        # Leave out only these people, so that other differences from the raw data are still reported.
        catalog.images = catalog.images[~catalog.images.person_id.isin(skipped)]
        catalog.people = catalog.people[~catalog.people.person_id.isin(skipped)]
    images = prepared.images.set_index("image_id")
    changed = set(catalog.images.image_id) ^ set(images.index)
    if not changed and prepared.meta["corrections"] is None:
        labels = with_labels(catalog.images, catalog.people).set_index("image_id").label
        changed = set(labels.index[labels != images.label.reindex(labels.index)])
    if changed:
        raise UserError(
            f"{layout.train_csv}: {len(changed)} photos, for example {min(changed)}, are missing, new or labelled "
            "differently since the data was prepared, or this is a different data set; set --data.root to the data "
            f"folder from which {prepared.folder} was prepared, or prepare the data again (scripts/prepare.py)"
        )
    return catalog
