"""The location of the raw data: a folder, or the environment variables of the organisers' server; it may have moved."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from maskfold.data.name_matching import DiskNames
from maskfold.errors import UserError
from maskfold.places import Places, is_found, possible_places


@dataclass(frozen=True)
class Layout:
    """Paths of a raw data set: train/train.csv, train/images, and eval with info.csv and images."""

    root: Path
    train_csv: Path
    train_images: Path
    eval_dir: Path

    def name_of(self, path: Path) -> str:
        """How warnings name a path of the data: the same wherever the data lies."""
        base = self.root if path.is_relative_to(self.root) else self.eval_dir.parent
        return path.relative_to(base).as_posix()

    @property
    def info_csv(self) -> Path:
        return self.eval_dir / "info.csv"

    @property
    def eval_images(self) -> Path:
        return self.eval_dir / "images"


def find_layout(root: Path | None, environ: Mapping[str, str] = os.environ) -> Layout:
    """The layout below `root`, or if it is None, of SM_CHANNEL_TRAIN (train.csv is beside it) and SM_CHANNEL_EVAL.

    Raises UserError if no location is given, or if it does not exist.
    """
    if root is not None:
        if not root.is_dir():
            raise UserError(f"{root}: no such data folder; give the folder that contains train/ and eval/")
        train = root / "train"
        return Layout(root, train / "train.csv", train / "images", root / "eval")
    if not environ.get("SM_CHANNEL_TRAIN"):
        raise UserError(
            "no data folder: give it by flag (--data.root or --data), as data.root in the YAML, or as SM_CHANNEL_TRAIN"
        )
    images = Path(environ["SM_CHANNEL_TRAIN"])
    if not images.is_dir():
        raise UserError(f"SM_CHANNEL_TRAIN={images}: no such folder; it must contain one folder per person")
    train = images.parent
    evaluation = environ.get("SM_CHANNEL_EVAL")
    if evaluation and not Path(evaluation).is_dir():
        raise UserError(f"SM_CHANNEL_EVAL={evaluation}: no such folder; it must contain info.csv and images/")
    return Layout(train.parent, train / "train.csv", images, Path(evaluation) if evaluation else train.parent / "eval")


def channel_root(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The raw data folder of SM_CHANNEL_TRAIN if it is set."""
    return [Path(environ["SM_CHANNEL_TRAIN"]).parent.parent] if environ.get("SM_CHANNEL_TRAIN") else []


def channel_eval(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The folder of SM_CHANNEL_EVAL if it is set."""
    return [Path(environ["SM_CHANNEL_EVAL"])] if environ.get("SM_CHANNEL_EVAL") else []


def find_root(recorded: Path, dataset_json: Path, person: PurePosixPath, places: Places) -> Path:
    """Find the raw data folder: --data.root, else where dataset.json says, else of SM_CHANNEL_TRAIN.

    person: the folder of one person's photos in the raw data folder. Raises UserError if it is in none of them.
    """
    if places.root is not None:
        if not DiskNames(places.root).resolve(str(person)).is_dir():
            raise UserError(
                f"--data.root {places.root}: has no {person}, so {dataset_json.parent} was prepared from other data; "
                "give the data folder that it was prepared from"
            )
        return places.root
    for place in [*possible_places(recorded, dataset_json.parent), *channel_root()]:
        if _holds(place, str(person)):
            return place
    raise UserError(
        f"{recorded}: the raw data is no longer there ({dataset_json} names this place); give its new place with "
        "--data.root"
    )


def find_eval_dir(recorded: Path, dataset_json: Path, photo: str, find_raw: Callable[[], Path], places: Places) -> Path:
    """Find the folder of info.csv and the eval photos, in the raw data folder or elsewhere.

    photo: the path of an eval photo in its folder images. find_raw: returns the raw data folder. Raises UserError if
    there is none.
    """
    for place in _possible_eval_dirs(recorded, dataset_json, find_raw, places):
        # Another data set may have a folder of this name.
        if _holds(place / "images", photo):
            return place
    raise UserError(
        f"{recorded}: the eval set is no longer there ({dataset_json} names this place); give the folder that contains "
        "eval/ with --data.root"
    )


def name_in_eval_images(image_id: str, recorded: str) -> str:
    """The path of an eval photo below eval/images.

    recorded: its path in eval.csv, which may be absolute, of a place where the eval set no longer is: only its end
    counts.
    """
    return "/".join(PurePosixPath(recorded).parts[-len(PurePosixPath(image_id).parts) :])


def _possible_eval_dirs(
    recorded: Path, dataset_json: Path, find_raw: Callable[[], Path], places: Places
) -> Iterator[Path]:
    if places.root is not None:
        yield places.root / "eval"
    yield from possible_places(recorded, dataset_json.parent)
    yield find_raw() / "eval"
    yield from channel_eval()


def _holds(folder: Path, name: str) -> bool:
    """Whether a file or folder of this name (see Names.find) is in a folder; False if that may not be looked into."""
    with suppress(PermissionError):
        return is_found(DiskNames(folder).resolve(name))
    return False
