"""Suspected wrong labels and people there twice, put before the user: nothing is changed here."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.analysis.duplicates import find_duplicates
from maskfold.analysis.page import note, page, photo, section
from maskfold.analysis.suspects import SURE, Contamination, suspects
from maskfold.analysis.tables import wide_console
from maskfold.data.corrections import COLUMNS
from maskfold.data.prepared import Prepared
from maskfold.data.store import Store, open_store
from maskfold.files import write_atomic, write_text
from maskfold.inference.predict import out_of_fold, prepared_of
from maskfold.labels import KIND_MASK, MASKS
from maskfold.predictions import mean
from maskfold.training.runs import RunFolder

FOLDER, PAGE = "audit", "audit.html"
# People an axis shows at least, and at most.
SHOWN, MOST = 12, 60
# The photo that a person is known by.
PORTRAIT = next(kind for kind, mask in KIND_MASK.items() if MASKS[mask] == "not worn")


def audit(runs: Sequence[RunFolder]) -> Path:
    """Write suspects.csv, corrections.csv, duplicates.csv and audit.html into the first run's audit/; print a summary.

    Several runs are asked together, by the mean of their out-of-fold probabilities. Raises UserError where they are not
    of the same labels, or the data has changed.
    """
    prepared = prepared_of(runs[0])
    oof = mean([out_of_fold(run, prepared) for run in runs])
    store = open_store(prepared, prepared.images, runs[0].config.data)
    found, fits = suspects(oof)
    twice = _with_labels(duplicates(runs[0], prepared, store), prepared)
    folder = runs[0].folder / FOLDER
    corrections = proposed(found)
    for name, table in (("suspects", found), ("corrections", corrections), ("duplicates", twice)):
        write_atomic(folder / f"{name}.csv", lambda beside, table=table: table.to_csv(beside, index=False))
    write_text(folder / PAGE, _page(" + ".join(run.name for run in runs), found, fits, twice, prepared, store))
    _tell(folder, prepared, found, fits, corrections, twice)
    return folder


def proposed(found: pd.DataFrame) -> pd.DataFrame:
    """A corrections file, with the evidence as reason, of what suspects() proposes."""
    rows = [(row.person_id, row.field, row.value, _evidence(row)) for row in found[found.proposed].itertuples()]
    return pd.DataFrame(rows, columns=COLUMNS)


def duplicates(run: RunFolder, prepared: Prepared, store: Store) -> pd.DataFrame:
    """People whose bare-faced portraits are one, by raw photos and by the embedding of the run's first fold model."""
    portraits = prepared.images[prepared.images.kind == PORTRAIT]
    rows = prepared.images.index.get_indexer(portraits.index)
    return find_duplicates(portraits.person_id.tolist(), prepared.photo_paths(portraits), _embeddings(run, store, rows))


def _embeddings(run: RunFolder, store: Store, rows: np.ndarray) -> np.ndarray:
    """float32 [N, F]: the pooled features of a fold's backbone."""
    import torch

    from maskfold.data.dataset import PhotoDataset, make_loader
    from maskfold.data.sampling import Batches
    from maskfold.data.transforms import eval_transform
    from maskfold.training.checkpoints import finished_model
    from maskfold.training.device import pick_device

    config, device = run.config, pick_device(run.config.run)
    model = finished_model(run, config, run.finished_parts[0], device).eval()
    dataset = PhotoDataset(store, None, eval_transform(config.data))
    loader = make_loader(dataset, Batches(rows, config.optim.batch_size, shuffle=False), 0, False)
    with torch.inference_mode():
        return np.concatenate([model.features(images.to(device)).float().cpu().numpy() for images, _, _ in loader])


def _with_labels(twice: pd.DataFrame, prepared: Prepared) -> pd.DataFrame:
    """Whether both are in one fold, and have one gender and age: apart, one person teaches and examines a model."""
    known = prepared.folds.set_index("person_id")[["fold", "gender", "age"]]
    one, other = (known.reindex(twice[column]).reset_index(drop=True) for column in ("person_a", "person_b"))
    return twice.assign(
        same_fold=one.fold == other.fold, same_labels=(one.gender == other.gender) & (one.age == other.age)
    )


def _evidence(row) -> str:
    words = f"{row.photos_against} of {row.photos} photos say {row.suggested}"
    words += "" if np.isnan(row.p_wrong) else f"; probability {row.p_wrong:.2f}"
    if row.confident_learning is not None:
        words += "; confident learning " + ("agrees" if row.confident_learning else "does not")
    return words


def _said_of(axis: str, fit: Contamination, people: int) -> str:
    if axis == "age":
        return "age: ranked only; near 30 and 60 the models err where labels are right, so nothing is proposed"
    if fit.evidence <= SURE:
        return f"{axis}: no wrong labels are evident; the models' own doubt explains where they disagree"
    return f"{axis}: an estimated {fit.rate:.1%} of {people} people are labelled wrongly"


def _tell(folder, prepared, found, fits, corrections, twice) -> None:
    console, people = wide_console(), found.person_id.nunique()
    for axis in found.axis.unique():
        words = _said_of(axis, fits[axis], people)
        count = int(found[found.axis == axis].proposed.sum())
        console.print(f"{words}; proposed: {count}" if axis != "age" else words)
    apart = int((~twice.same_fold).sum())
    console.print(f"people there twice: {len(twice)} pairs, {apart} of them in two folds (they leak)")
    console.print(f"look at them: {folder / PAGE}")
    if len(corrections):
        file, root = folder / "corrections.csv", prepared.meta["root"]
        console.print(f"{len(corrections)} corrections are proposed in {file}; strike out what you don't believe, then")
        console.print(f"  what they do to the score: python scripts/evaluate.py {folder.parent} --corrections {file}")
        console.print(f"  to train with them: python scripts/prepare.py --data {root} --out NEW --corrections {file}")


def _page(name: str, found: pd.DataFrame, fits: dict, twice: pd.DataFrame, prepared: Prepared, store: Store) -> str:
    row_of = {image_id: row for row, image_id in enumerate(prepared.images.image_id)}

    def shown(person: str, kinds: Sequence[str]) -> str:
        return "".join(photo(store[row_of[f"{person}/{kind}"]], f"{person}/{kind}") for kind in kinds)

    odd = [kind for kind, mask in KIND_MASK.items() if mask]
    pair = [next(iter(KIND_MASK)), PORTRAIT]
    sections = [f"<h1>Audit: {escape(name)}</h1>"]
    for axis in found.axis.unique():
        table = found[found.axis == axis]
        most = min(max(SHOWN, int(table.proposed.sum())), MOST)
        cells = [
            f"<figure class='pair'>{shown(row.person_id, odd if axis == 'mask' else pair)}<figcaption>"
            f"<code>{escape(row.person_id)}</code><br>{row.rank}. is {escape(row.given)}, {escape(_evidence(row))}"
            f"{'<br><b>proposed</b>' if row.proposed else ''}</figcaption></figure>"
            for row in table.head(most).itertuples()
        ]
        people = found.person_id.nunique()
        sections.append(
            section(
                axis.capitalize(), note(_said_of(axis, fits[axis], people)) + f"<div class='row'>{''.join(cells)}</div>"
            )
        )
    cells = [
        f"<figure class='pair'>{shown(row.person_a, [PORTRAIT])}{shown(row.person_b, [PORTRAIT])}<figcaption><code>"
        f"{escape(row.person_a)}</code><br><code>{escape(row.person_b)}</code><br>likeness {row.likeness:.2f}, "
        f"{row.points} points; {'one fold' if row.same_fold else '<b>two folds</b>'}, "
        f"{'the same labels' if row.same_labels else '<b>different labels</b>'}</figcaption></figure>"
        for row in twice.head(MOST).itertuples()
    ]
    body = f"<div class='row'>{''.join(cells)}</div>" if cells else note("There are none.")
    sections.append(section("People there twice", body))
    return page(f"Audit: {name}", sections)
