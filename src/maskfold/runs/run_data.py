"""Find the prepared folder of a run. The folder may have been moved, copied or prepared again elsewhere."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from maskfold.data.images_table import META_FILE, Prepared, load_prepared
from maskfold.data.raw_layout import default_folder, find_layout
from maskfold.errors import UserError
from maskfold.places import is_found, possible_paths
from maskfold.runs.run_folder import RunFolder


def prepared_candidates(run: RunFolder) -> Iterator[Path]:
    """Yield the existing prepared folders that may belong to a run, the most likely first, without checking them.

    Raises UserError if config.yaml no longer names a prepared folder.
    """
    recorded = run.config.data.prepared
    if recorded is None:
        path = run.folder / "config.yaml"
        raise UserError(f"{path}: data.prepared is missing; restore the file, or start again with --fresh")
    if run.places.prepared is not None:
        folders = [run.places.prepared]
    else:
        folders = list(possible_paths(recorded, run.folder))
        if run.places.root is not None:
            folders.append(default_folder(find_layout(run.places.root)))
    yield from (folder for folder in folders if is_found(folder / META_FILE))


def prepared_of(run: RunFolder, load: Callable[[Path], Prepared] | None = None) -> Prepared:
    """Load the prepared folder that a run was trained on. It is recognised by its identity, not by its path.

    load: the function that reads a prepared folder; None means load_prepared with run.places. Raises UserError if
    config.yaml was edited, if no prepared folder is found, or if each folder found is damaged or differs from the run
    in its data or folds. Raises PermissionError if this user may not read the folder that is found.
    """
    # Checked first, because an edited config may no longer contain the path of the prepared folder.
    run.check_unedited()
    identity, different, first_error = run.provenance["identity"], None, None
    for folder in prepared_candidates(run):
        try:
            prepared = load(folder) if load else load_prepared(folder, run.places)
        # A recorded folder may belong to another user.
        except (UserError, PermissionError) as error:
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


def prepared_if_found(run: RunFolder) -> Prepared | None:
    """Like prepared_of, but return None instead of an error if neither --data.root nor --data.prepared is given."""
    # An edited config is an error even if the data is not needed.
    run.check_unedited()
    try:
        return prepared_of(run)
    except (UserError, PermissionError):
        if run.places.root is None and run.places.prepared is None:
            return None
        raise


def _missing(run: RunFolder) -> UserError:
    if run.places.prepared is not None:
        return UserError(
            f"--data.prepared {run.places.prepared}: not a prepared folder (it has no {META_FILE}); give the folder "
            "that prepare.py wrote"
        )
    data = run.config.data
    flags = f"--folds {data.folds} --seed {data.fold_seed}"
    if data.corrections is not None:
        flags += f" --corrections {shlex.quote(str(data.corrections))}"
    return UserError(
        f"{data.prepared}: the prepared data of {run.folder} is no longer there; give its new path with "
        "--data.prepared, or prepare the raw data again with the same folds and corrections (scripts/prepare.py --data "
        f"ROOT {flags}) and give --data.root ROOT"
    )
