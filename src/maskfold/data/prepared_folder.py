"""Raw folder -> prepared folder. All checks come before the first write."""

import sys
from pathlib import Path

import pandas as pd

from maskfold.config.experiment import Config, Data
from maskfold.data.catalog import raise_faults, read_catalog, with_labels
from maskfold.data.corrections import apply_corrections
from maskfold.data.damaged_photos import SKIP_HINT, check_photos, describe_skipped, leave_out
from maskfold.data.folds import check_folds, largest_share_difference, make_folds
from maskfold.data.images_table import (
    EVAL_FILE,
    FOLDS_FILE,
    IMAGES_FILE,
    META_FILE,
    Prepared,
    fingerprint,
    load_prepared,
    read_meta,
    read_prepared_table,
)
from maskfold.data.raw_layout import Layout, find_layout
from maskfold.errors import UserError
from maskfold.fileio import locked, sha256, write_csv, write_json
from maskfold.format_version import KEY, PREPARED


def default_folder(layout: Layout) -> Path:
    """data/prepared/<name of the raw data folder>."""
    return Path("data/prepared") / layout.root.resolve().name


def prepare(
    layout: Layout,
    folder: Path,
    folds: int | None = None,
    seed: int | None = None,
    corrections: Path | None = None,
    skip_damaged: bool = False,
) -> Prepared:
    """Check all raw data, reading each photo once, and write the prepared folder; an existing folds.csv is kept.

    folds, seed: for new folds (None: the defaults of the schema). skip_damaged: leave out people with a photo that
    cannot be read, and eval photos that cannot be read, instead of an error. Raises UserError before anything is
    written: for faults in the data (the message lists all of them), or if the folder was prepared from another root.
    """
    places = _places(layout)
    _refuse_other_root(folder, places)
    catalog = read_catalog(layout)
    evaluation = pd.DataFrame(columns=["image_id", "path"]) if catalog.evaluation is None else catalog.evaluation
    photos, eval_photos = (check_photos(table, layout.root) for table in (catalog.images, evaluation))
    skipped, hint = None, ""
    if skip_damaged:
        photos, eval_photos, skipped = leave_out(photos, eval_photos)
    elif any([*photos.faults, *eval_photos.faults]):
        catalog.train_faults += photos.messages(layout.root)
        catalog.eval_faults += eval_photos.messages(layout.root)
        hint = SKIP_HINT
    raise_faults(catalog.train_faults + catalog.eval_faults, layout.root, hint)
    people, applied = catalog.people[catalog.people.person_id.isin(set(photos.table.person_id))], None
    swapped: set[str] = set()
    if corrections is not None:
        people, swapped, applied = apply_corrections(people, corrections)
        applied["sha256"] = sha256(corrections)
    images = with_labels(photos.table, people, swapped)
    evaluation = None if catalog.evaluation is None else eval_photos.table
    if not (folder / FOLDS_FILE).exists():
        # If there are more folds than people, raise the error before the folder is created.
        make_folds(people, folds or Config().data.folds, 0)
    with locked(folder):
        fold_table, seed, warnings = _make_or_keep_folds(folder, people, images, folds, seed)
        meta = {
            KEY: PREPARED,
            **places,
            "counts": {
                "people": len(people),
                "images": len(images),
                "eval_images": len(eval_photos.table),
                "folds": int(fold_table.fold.max()) + 1,
            },
            "fold_seed": seed,
            "fingerprint": fingerprint(images, photos.contents),
            "eval_fingerprint": fingerprint(eval_photos.table, eval_photos.contents),
            "corrections": applied,
            "skipped": skipped,
            "warnings": catalog.warnings + warnings,
        }
        # Otherwise a kill while the tables are replaced would leave new labels under the old fingerprint.
        (folder / META_FILE).unlink(missing_ok=True)
        for name, table in ((IMAGES_FILE, images), (FOLDS_FILE, fold_table), (EVAL_FILE, evaluation)):
            if table is None:
                (folder / name).unlink(missing_ok=True)
            else:
                write_csv(folder / name, table)
        # Written last: its presence means that the other files are complete.
        write_json(folder / META_FILE, meta)
    return Prepared(folder, images, fold_table, evaluation, meta)


def ensure_prepared(data: Data) -> Prepared:
    """Load the prepared folder, or prepare it (and describe it on stderr) if it is missing.

    Raises UserError if it was prepared from another root, or with corrections other than data.corrections.
    """
    if data.root is None and data.prepared is not None and (data.prepared / META_FILE).exists():
        prepared = load_prepared(data.prepared)
    else:
        layout = find_layout(data.root)
        folder = data.prepared or default_folder(layout)
        if not (folder / META_FILE).exists():
            prepared = prepare(layout, folder, data.folds, data.fold_seed, data.corrections)
            print("\n".join(describe(prepared)), file=sys.stderr)
            return prepared
        _refuse_other_root(folder, _places(layout))
        prepared = load_prepared(folder)
    if data.corrections is not None:
        _check_corrections(prepared, data.corrections)
    return prepared


def _check_corrections(prepared: Prepared, corrections: Path) -> None:
    if not corrections.is_file():
        raise UserError(f"data.corrections: {corrections}: no such file; give the path of a corrections CSV")
    applied = prepared.meta["corrections"]
    if applied is None or applied["sha256"] != sha256(corrections):
        prepared_with = "no corrections" if applied is None else f"the corrections of {applied['file']}"
        raise UserError(
            f"data.corrections: {prepared.folder} was prepared with {prepared_with}, not with the present content of "
            f"{corrections}; prepare it again (scripts/prepare.py --corrections {corrections}), or choose another "
            "data.prepared"
        )


def _places(layout: Layout) -> dict[str, str]:
    return {"root": str(layout.root.resolve()), "eval": str(layout.eval_dir.resolve())}


def _refuse_other_root(folder: Path, places: dict[str, str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; choose another prepared folder")
    if not (folder / META_FILE).exists():
        return
    meta = read_meta(folder)
    for key, place in places.items():
        if meta[key] != place:
            raise UserError(
                f"{folder}: was prepared from {meta[key]}, not from {place}; choose another prepared folder, or delete "
                "this one"
            )


def describe(prepared: Prepared) -> list[str]:
    """Lines that describe a prepared folder: warnings, photos left out, corrections, counts, folds."""
    meta, counts = prepared.meta, prepared.meta["counts"]
    lines = [f"warning: {warning}" for warning in meta["warnings"]] + describe_skipped(meta.get("skipped"))
    if applied := meta["corrections"]:
        made, unchanged, absent = len(applied["changed"]), applied["already_so"], len(applied["not_in_data"])
        lines.append(f"corrections: {made} made, {unchanged} already correct, {absent} not in the data")
        lines += [f"  {change}" for change in applied["changed"]]
    lines.append(f"{counts['people']} people, {counts['images']} photos, {counts['eval_images']} eval photos")
    difference = largest_share_difference(prepared.images, prepared.folds)
    lines.append(
        f"{counts['folds']} folds, grouped by person; the share of a class differs between folds by at most "
        f"{difference:.1%}"
    )
    return [*lines, f"prepared: {prepared.folder}"]


def _make_or_keep_folds(
    folder: Path, people: pd.DataFrame, images: pd.DataFrame, folds: int | None, seed: int | None
) -> tuple[pd.DataFrame, int | None, list[str]]:
    """(folds, their seed or None if unknown, warnings): the folds of folds.csv if it exists, else new ones."""
    path = folder / FOLDS_FILE
    if not path.exists():
        seed = Config().data.fold_seed if seed is None else seed
        fold_table, warnings = make_folds(people, folds or Config().data.folds, seed)
        return fold_table, seed, warnings
    kept = read_prepared_table(folder, FOLDS_FILE)
    check_folds(images, kept)
    count = int(kept.fold.max()) + 1
    kept_seed = read_meta(folder)["fold_seed"] if (folder / META_FILE).exists() else seed
    warning = (
        f"{path} has {count} folds and is kept, although {folds} folds are requested; to make new folds, choose "
        "another prepared folder"
    )
    return kept, kept_seed, [warning] if folds not in (None, count) else []
