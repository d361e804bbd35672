"""The labels of prepared photos under other corrections, without preparing them anew."""

from pathlib import Path

import pandas as pd

from maskfold.data.catalog import labelled, read_catalog, tell
from maskfold.data.corrections import apply_corrections
from maskfold.data.layout import find_layout
from maskfold.data.prepared import Prepared


def relabelled(prepared: Prepared, corrections: Path | None) -> tuple[pd.Series, dict]:
    """Label 0..17 by image_id as the raw data and a corrections file (None: as given) have it, and what was corrected.

    Raises UserError where the raw data is gone, or for faults in the file.
    """
    layout = find_layout(Path(prepared.meta["root"]))
    catalog = read_catalog(layout)
    # Of the eval side nothing is asked.
    tell([fault for fault in catalog.faults if str(layout.eval_dir) not in fault], layout.root)
    people, swapped, report = catalog.people, frozenset(), {"changed": [], "already_so": 0, "not_in_data": []}
    if corrections is not None:
        people, swapped, report = apply_corrections(people, corrections)
    table = labelled(catalog.images, people, swapped)
    return table.set_index("image_id").label, report
