"""Find the raw data, even after a move: in a given folder, or by environment variables of the organisers' server."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from maskfold.data.name_matching import DiskNames
from maskfold.errors import UserError
from maskfold.places import Places, is_found, possible_paths

# The default parent folder of prepared folders.
PREPARED_FOLDERS = Path("data/prepared")
# Height and width of the competition's photos, in pixels. Other sizes are accepted too.
PHOTO_SIZE = (512, 384)


@dataclass(frozen=True)
class Layout:
    """Paths of a raw data folder: train/train.csv, train/images, and eval, which contains info.csv and images."""

    root: Path
    train_csv: Path
    train_images: Path
    eval_dir: Path

    def name_of(self, path: Path) -> str:
        """Return the relative path for warnings; it stays the same when the data is moved."""
        base = self.root if path.is_relative_to(self.root) else self.eval_dir.parent
        return path.relative_to(base).as_posix()

    @property
    def info_csv(self) -> Path:
        return self.eval_dir / "info.csv"

    @property
    def eval_images(self) -> Path:
        return self.eval_dir / "images"


def find_layout(root: Path | None, environ: Mapping[str, str] = os.environ) -> Layout:
    """Return the layout of the raw data folder `root`.

    If `root` is None, use the environment variables SM_CHANNEL_TRAIN (the path of train/images) and SM_CHANNEL_EVAL
    (default: eval/ next to train/). Raises UserError if no folder is given, or if a given folder does not exist.
    """
    if root is not None:
        if not root.is_dir():
            raise UserError(f"{root}: no such data folder; give the folder that contains train/ and eval/")
        train = root / "train"
        return Layout(root, train / "train.csv", train / "images", root / "eval")
    if not environ.get("SM_CHANNEL_TRAIN"):
        raise UserError(
            "no data folder: give one by flag (--data.root or --data), as data.root in the YAML, or as SM_CHANNEL_TRAIN"
        )
    images = Path(environ["SM_CHANNEL_TRAIN"])
    if not images.is_dir():
        raise UserError(f"SM_CHANNEL_TRAIN={images}: no such folder; it must contain one folder per person")
    train = images.parent
    evaluation = environ.get("SM_CHANNEL_EVAL")
    if evaluation and not Path(evaluation).is_dir():
        raise UserError(f"SM_CHANNEL_EVAL={evaluation}: no such folder; it must contain info.csv and images/")
    return Layout(train.parent, train / "train.csv", images, Path(evaluation) if evaluation else train.parent / "eval")


def default_folder(layout: Layout) -> Path:
    """Return data/prepared/<name of the raw data folder>."""
    return PREPARED_FOLDERS / layout.root.resolve().name


def channel_root(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return [the raw data folder of SM_CHANNEL_TRAIN], or an empty list if this variable is not set."""
    return [Path(environ["SM_CHANNEL_TRAIN"]).parent.parent] if environ.get("SM_CHANNEL_TRAIN") else []


def channel_eval(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return [the folder of SM_CHANNEL_EVAL], or an empty list if this variable is not set."""
    return [Path(environ["SM_CHANNEL_EVAL"])] if environ.get("SM_CHANNEL_EVAL") else []


def find_root(recorded: Path, dataset_json: Path, person: PurePosixPath, places: Places) -> Path:
    """Find the raw data folder: the one of --data.root, or else of dataset.json, or else of SM_CHANNEL_TRAIN.

    recorded: the path in dataset.json. person: the folder of one person's photos, relative to the raw data folder.
    Raises UserError if the person's folder is not found.
    """
    if places.root is not None:
        if not DiskNames(places.root).resolve(str(person)).is_dir():
            raise UserError(
                f"--data.root {places.root}: does not contain {person}, so {dataset_json.parent} was prepared from "
                "other data; give the data folder that it was prepared from"
            )
        return places.root
    for folder in [*possible_paths(recorded, dataset_json.parent), *channel_root()]:
        if _contains(folder, str(person)):
            return folder
    raise UserError(
        f"{recorded}: the raw data is no longer at this path, which is recorded in {dataset_json}; give the new path "
        "with --data.root"
    )


def find_eval_dir(recorded: Path, dataset_json: Path, photo: str, find_raw: Callable[[], Path], places: Places) -> Path:
    """Find the folder that contains info.csv and the eval photos, in the raw data folder or elsewhere.

    recorded: the path in dataset.json. photo: the path of an eval photo, relative to eval/images. find_raw: function
    that returns the raw data folder. Raises UserError if no eval set is found.
    """
    for folder in _possible_eval_dirs(recorded, dataset_json, find_raw, places):
        # The photo is looked up, because another data set may have a folder with the same path.
        if _contains(folder / "images", photo):
            return folder
    raise UserError(
        f"{recorded}: the eval set is no longer at this path, which is recorded in {dataset_json}; give the folder "
        "that contains eval/ with --data.root"
    )


def name_in_eval_images(image_id: str, recorded: str) -> str:
    """Return the path of an eval photo, relative to eval/images.

    recorded: the photo's path in eval.csv. Only the end of this path is used, because the eval set may have been moved.
    """
    return "/".join(PurePosixPath(recorded).parts[-len(PurePosixPath(image_id).parts) :])


def _possible_eval_dirs(
    recorded: Path, dataset_json: Path, find_raw: Callable[[], Path], places: Places
) -> Iterator[Path]:
    if places.root is not None:
        yield places.root / "eval"
    yield from possible_paths(recorded, dataset_json.parent)
    yield find_raw() / "eval"
    yield from channel_eval()


def _contains(folder: Path, name: str) -> bool:
    """Whether a folder contains a file or folder of this name (see Names.find); False without access to the folder."""
    with suppress(PermissionError):
        return is_found(DiskNames(folder).resolve(name))
    return False
