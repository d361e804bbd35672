"""Find the raw data of a prepared folder, which may have been moved since."""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from maskfold.data.raw_layout import channel_eval, channel_root
from maskfold.errors import UserError
from maskfold.places import Places, possible_places


def find_root(recorded: Path, dataset_json: Path, person: PurePosixPath, places: Places) -> Path:
    """Find the raw data folder: --data.root, else where dataset.json says, else of SM_CHANNEL_TRAIN.

    person: the folder of one person's photos in the raw data folder. Raises UserError if it is in none of them.
    """
    if places.root is not None:
        if not (places.root / person).is_dir():
            raise UserError(
                f"--data.root {places.root}: has no {person}, so {dataset_json.parent} was prepared from other data; "
                "give the data folder that it was prepared from"
            )
        return places.root
    for place in [*possible_places(recorded, dataset_json.parent), *channel_root()]:
        if (place / person).is_dir():
            return place
    raise UserError(
        f"{recorded}: the raw data is no longer there ({dataset_json} names this place); give its new place with "
        "--data.root"
    )


def find_eval_dir(recorded: Path, dataset_json: Path, find_raw: Callable[[], Path], places: Places) -> Path:
    """Find the folder of info.csv and the eval photos, in the raw data folder or elsewhere.

    find_raw: returns the raw data folder. Raises UserError if there is none.
    """
    for place in _possible_eval_dirs(recorded, dataset_json, find_raw, places):
        if (place / "info.csv").is_file():
            return place
    raise UserError(
        f"{recorded}: the eval set is no longer there ({dataset_json} names this place); give the folder that contains "
        "eval/ with --data.root"
    )


def _possible_eval_dirs(
    recorded: Path, dataset_json: Path, find_raw: Callable[[], Path], places: Places
) -> Iterator[Path]:
    if places.root is not None:
        yield places.root / "eval"
    yield from possible_places(recorded, dataset_json.parent)
    yield find_raw() / "eval"
    yield from channel_eval()
