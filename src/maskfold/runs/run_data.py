"""Find the prepared folder of a run, which may have been moved, copied or prepared again elsewhere."""

from collections.abc import Callable, Iterator
from pathlib import Path

from maskfold.data.images_table import META_FILE, Prepared, load_prepared
from maskfold.data.prepared_folder import default_folder
from maskfold.data.raw_layout import find_layout
from maskfold.errors import UserError
from maskfold.places import possible_paths
from maskfold.runs.run_folder import RunFolder


def prepared_candidates(run: RunFolder) -> Iterator[Path]:
    """Yield the folders that may be the prepared folder of a run, the most likely first; they need not exist.

    Raises UserError if config.yaml no longer names a prepared folder.
    """
    recorded = run.config.data.prepared
    if recorded is None:
        path = run.folder / "config.yaml"
        raise UserError(f"{path}: data.prepared is missing; restore the file, or start again with --fresh")
    if run.places.prepared is not None:
        yield run.places.prepared
        return
    yield from possible_paths(recorded, run.folder)
    if run.places.root is not None:
        yield default_folder(find_layout(run.places.root))


def prepared_of(run: RunFolder, load: Callable[[Path], Prepared] | None = None) -> Prepared:
    """Load the prepared folder that a run was trained on, wherever it is: its fingerprints identify it.

    load: reads a prepared folder; None for load_prepared with the places of the run. Raises UserError if it is not
    found, damaged, or only one of other data or folds is found.
    """
    # Checked first, because an edited config may contain no path of a prepared folder.
    run.check_unedited()
    identity, different, first_error = run.provenance["identity"], None, None
    for folder in prepared_candidates(run):
        if not (folder / META_FILE).is_file():
            continue
        try:
            prepared = load(folder) if load else load_prepared(folder, run.places)
        except UserError as error:
            first_error = first_error or error
            continue
        if prepared.identity == identity:
            return prepared
        different = different or prepared
    if different is not None:
        raise UserError(
            f"{different.folder}: its photos, labels or folds have changed since {run.folder} was trained, or it is "
            "the prepared folder of another run; give the prepared folder of this run with --data.prepared"
        )
    raise first_error or _missing(run)


def _missing(run: RunFolder) -> UserError:
    if run.places.prepared is not None:
        return UserError(
            f"--data.prepared {run.places.prepared}: not a prepared folder (it has no {META_FILE}); give the folder "
            "that prepare.py wrote"
        )
    data = run.config.data
    return UserError(
        f"{data.prepared}: the prepared data of {run.folder} is no longer there; give its new path with "
        "--data.prepared, or prepare the raw data again with the same folds (scripts/prepare.py --data ROOT "
        f"--folds {data.folds} --seed {data.fold_seed}) and give --data.root ROOT"
    )
