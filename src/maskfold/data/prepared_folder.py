"""Make the prepared folder of a raw data folder. All checks come before the first write."""

import hashlib
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from maskfold.cache_folder import CacheFolder
from maskfold.config.experiment import Config, Data
from maskfold.data.catalog import raise_faults, read_catalog, with_labels
from maskfold.data.corrections import apply_corrections, check_corrections
from maskfold.data.damaged_photos import CHECKED_BY, SKIP_ELSEWHERE_HINT, SKIP_HINT, leave_out
from maskfold.data.dataset_record import fingerprint, write_changed
from maskfold.data.folds import check_folds, fold_warnings, make_folds
from maskfold.data.images_table import (
    EVAL_FILE,
    FOLDS_FILE,
    IMAGES_FILE,
    META_FILE,
    Prepared,
    describe,
    load_prepared,
    read_meta,
    read_prepared_table,
)
from maskfold.data.raw_layout import Layout, default_folder, find_layout
from maskfold.data.same_data import (
    changed_data_error,
    check_changed_photos,
    check_same_data,
    check_same_photos,
    has_same_content,
    is_recorded_folder,
    root_exists,
)
from maskfold.errors import UserError
from maskfold.fileio import check_output, json_text, sha256, why_not_writable
from maskfold.format_version import KEY, PREPARED
from maskfold.locks import locked
from maskfold.places import Places, recorded_path


@dataclass(frozen=True)
class PrepareOptions:
    """How to prepare raw data.

    folds, seed: number and seed of new folds (None: the defaults of the schema). corrections: CSV of label corrections.
    skip_damaged: leave out unreadable eval photos and people with an unreadable photo, instead of raising an error.
    may_change: whether an existing prepared folder may change. If not, only the path of raw data that was moved is
    replaced in it.
    """

    folds: int | None = None
    seed: int | None = None
    corrections: Path | None = None
    skip_damaged: bool = False
    may_change: bool = True


def prepare(layout: Layout, folder: Path, options: PrepareOptions = PrepareOptions()) -> Prepared:
    """Check all raw data and write the prepared folder. An existing folds.csv is kept.

    Files whose content would not change are not written, so an existing prepared folder may be read-only. Raises
    UserError, before anything is written, if the data has faults (the message lists all of them), if the folder was
    prepared from other photos, or if its content would change although options.may_change is False.
    """
    _check_not_file(folder)
    # Reading the photos may take minutes, so a damaged dataset.json is reported before that.
    old_meta = read_meta(folder) if (folder / META_FILE).exists() else None
    is_other_folder = old_meta is not None and not is_recorded_folder(folder, layout)
    catalog = read_catalog(layout)
    photos, eval_photos = check_changed_photos(catalog, layout, folder, None if is_other_folder else old_meta)
    if not options.skip_damaged:
        catalog.train_faults += photos.messages(layout.root)
        catalog.eval_faults += eval_photos.messages(layout.root)
    photos, eval_photos, skipped = leave_out(photos, eval_photos)
    hint = "" if options.skip_damaged or skipped is None else _skip_hint(folder, skipped["people"])
    raise_faults(catalog.train_faults + catalog.eval_faults, layout.root, hint)
    if is_other_folder:
        check_same_photos(folder, layout, photos, eval_photos)
    people, applied = catalog.people[catalog.people.person_id.isin(set(photos.table.person_id))], None
    swapped: set[str] = set()
    if options.corrections is not None:
        people, swapped, applied = apply_corrections(people, options.corrections)
        recorded = str(recorded_path(options.corrections, folder))
        applied |= {"file": recorded, "sha256": sha256(options.corrections)}
    images = with_labels(photos.table, people, swapped)
    evaluation = None if catalog.evaluation is None else eval_photos.table
    if not (folder / FOLDS_FILE).exists():
        # If there are more folds than people, raise the error before the folder is created.
        make_folds(people, options.folds or Config().data.folds, 0)
    is_writable = why_not_writable(folder) is None
    with locked(folder) if is_writable else nullcontext():
        fold_table, seed, warnings = _make_or_keep_folds(folder, people, images, options.folds, options.seed)
        tables = {IMAGES_FILE: images, FOLDS_FILE: fold_table, EVAL_FILE: evaluation}
        texts = {name: None if table is None else table.to_csv(index=False) for name, table in tables.items()}
        # Another process may have prepared the folder while this one read the photos.
        old_meta = read_meta(folder) if (folder / META_FILE).exists() else None
        meta = {
            **{KEY: PREPARED, "checked_by": CHECKED_BY, **_raw_paths(folder, layout, old_meta)},
            "counts": {
                "people": len(people),
                "images": len(images),
                "eval_images": len(eval_photos.table),
                "folds": int(fold_table.fold.max()) + 1,
            },
            "fold_seed": seed,
            "fingerprint": fingerprint(images, photos.hashes),
            "eval_fingerprint": fingerprint(eval_photos.table, eval_photos.hashes),
            "corrections": applied,
            "skipped": skipped,
            "warnings": catalog.warnings + warnings,
            # With the hash of each file, train.py can tell that the tables are intact without parsing them.
            "tables": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items() if text},
        }
        if old_meta is None or options.may_change:
            # A folder that cannot be written stays valid if the data was only moved.
            writes = is_writable or old_meta is None or not has_same_content(folder, old_meta, tables, meta)
        elif has_same_content(folder, old_meta, tables, meta):
            writes = is_writable and not root_exists(folder, old_meta)
        else:
            raise changed_data_error(folder, layout)
        if writes:
            write_changed({folder / name: text for name, text in texts.items()}, folder / META_FILE, json_text(meta))
    return Prepared(folder, images, fold_table, evaluation, meta, Places(root=layout.root))


def ensure_prepared(data: Data, cache: CacheFolder | None = None) -> Prepared:
    """Load the prepared folder. If it is missing, prepare the data and print a description on stderr.

    cache: the folder of --cache. Raises UserError if the folder was prepared from other photos, or with corrections
    other than data.corrections.
    """
    places = Places(data.root, data.prepared, cache or CacheFolder())
    if data.root is None and data.prepared is not None and (data.prepared / META_FILE).exists():
        prepared = load_prepared(data.prepared, places)
    else:
        layout = find_layout(data.root)
        folder = data.prepared or default_folder(layout)
        _check_not_file(folder)
        if not (folder / META_FILE).exists():
            check_output(folder, "--data.prepared")
            prepared = prepare(layout, folder, PrepareOptions(data.folds, data.fold_seed, data.corrections))
            print("\n".join(describe(prepared)), file=sys.stderr)
            return replace(prepared, places=places)
        check_same_data(folder, layout)
        prepared = load_prepared(folder, places)
    if data.corrections is not None:
        check_corrections(prepared, data.corrections)
    return prepared


def _raw_paths(folder: Path, layout: Layout, old_meta: dict | None) -> dict[str, str]:
    """The paths of the raw data that dataset.json records: {root, eval}."""
    paths = {"root": str(recorded_path(layout.root, folder)), "eval": str(recorded_path(layout.eval_dir, folder))}
    if old_meta is not None and is_recorded_folder(folder, layout):
        # Relative paths stay as recorded, so that dataset.json is the same in every copy of the project and does not
        # depend on the working directory.
        paths |= {key: old_meta[key] for key in paths if not Path(old_meta[key]).is_absolute()}
    return paths


def _check_not_file(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder for the prepared data")


def _skip_hint(folder: Path, people: list[str]) -> str:
    # An older version of maskfold may have accepted the photos of these people. Then folds.csv contains the people, and
    # finished runs need these folds, so the hint suggests another folder.
    in_folds = (folder / FOLDS_FILE).exists() and read_prepared_table(folder, FOLDS_FILE).person_id.isin(people).any()
    return SKIP_ELSEWHERE_HINT if in_folds else SKIP_HINT


def _make_or_keep_folds(
    folder: Path, people: pd.DataFrame, images: pd.DataFrame, folds: int | None, seed: int | None
) -> tuple[pd.DataFrame, int | None, list[str]]:
    """Return (folds, seed, warnings) of folds.csv if it exists, else of new folds.

    Without dataset.json, the seed of an existing folds.csv is unknown, and the argument `seed` is returned.
    """
    path = folder / FOLDS_FILE
    if not path.exists():
        seed = Config().data.fold_seed if seed is None else seed
        fold_table, warnings = make_folds(people, folds or Config().data.folds, seed)
        return fold_table, seed, warnings
    kept_folds = read_prepared_table(folder, FOLDS_FILE)
    check_folds(images, kept_folds)
    num_folds = int(kept_folds.fold.max()) + 1
    kept_seed = read_meta(folder)["fold_seed"] if (folder / META_FILE).exists() else seed
    warnings = fold_warnings(people, num_folds)
    if folds not in (None, num_folds):
        warnings.append(
            f"{FOLDS_FILE} has {num_folds} folds and is kept, although {folds} folds are requested; to make new folds, "
            "use another prepared folder"
        )
    return kept_folds, kept_seed, warnings
