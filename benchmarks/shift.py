#!/usr/bin/env python
"""The warning that eval photos differ from training photos: false alarms, and the changes that cause the warning.

The people of a data set are split at random into training people and eval people, whose photos do not differ. Then the
photos of the eval people are changed, or replaced by those of other data sets. Prints one row per case.

    python benchmarks/shift.py --data DATA --train-people 300 --eval-people 200 --other OTHER_DATA
"""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from maskfold.config.cli import Parser, run
from maskfold.data.decode import read_photo
from maskfold.data.images_table import Prepared
from maskfold.data.prepared_folder import prepare
from maskfold.data.raw_layout import find_layout
from maskfold.labels import PHOTOS_PER_PERSON
from maskfold.loading.photo_shift import measure_shift, sample_photos
from maskfold.loading.photo_statistics import photo_statistics

Change = Callable[[np.ndarray], np.ndarray]


def blur(sigma: float) -> Change:
    return lambda image: cv2.GaussianBlur(image, (0, 0), sigma)


def encode(*qualities: int) -> Change:
    """Encode as JPEG with each quality in turn."""

    def change(image: np.ndarray) -> np.ndarray:
        for quality in qualities:
            _, content = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
            image = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
        return image

    return change


def enlarge(factor: float) -> Change:
    """Enlarge the centre of the photo to the size of the photo."""

    def change(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        top, left = round(height * (1 - 1 / factor) / 2), round(width * (1 - 1 / factor) / 2)
        return cv2.resize(image[top : height - top, left : width - left], (width, height))

    return change


def colour(red: float, green: float, blue: float) -> Change:
    return lambda image: np.clip(image * np.array([red, green, blue]), 0, 255).astype(np.uint8)


CHANGES: dict[str, Change] = {
    **{f"blurred, sigma {sigma}": blur(sigma) for sigma in (0.3, 0.4, 0.5, 0.7, 1.0, 2.0)},
    **{f"encoded again, quality {quality}": encode(quality) for quality in (95, 90, 80, 70, 50, 30)},
    "encoded with quality 30, then 95": encode(30, 95),
    "enlarged by 1.1": enlarge(1.1),
    "warmer light (5 % more red, less blue)": colour(1.05, 1.0, 0.95),
}


class Statistics:
    """Statistics of photos; those of a photo with a change are computed only once."""

    def __init__(self, root: Path):
        self.root, self.computed = root, {}

    def __call__(self, paths: list[str], name: str = "", change: Change = lambda image: image) -> np.ndarray:
        missing = [path for path in paths if (path, name) not in self.computed]
        with ThreadPoolExecutor() as pool:
            rows = pool.map(lambda path: photo_statistics(change(read_photo(self.root / path).image)), missing)
            self.computed.update(((path, name), row) for path, row in zip(missing, rows, strict=True))
        return np.array([self.computed[path, name] for path in paths])


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--data", dest="raw", type=Path, required=True, help="raw data folder")
    parser.add_argument(
        "--other", type=Path, nargs="*", default=[], help="raw data of other populations (default: none)"
    )
    parser.add_argument("--train-people", type=int, default=300, help="training people per split (default: 300)")
    parser.add_argument("--eval-people", type=int, default=200, help="eval people per split (default: 200)")
    parser.add_argument("--splits", type=int, default=20, help="random splits (default: 20)")
    parser.add_argument("--changed-splits", type=int, default=3, help="splits per changed case (default: 3)")
    parser.add_argument("--only-splits", action="store_true", help="measure only the false alarms (default: no)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(find_layout(args.raw), Path(scratch) / "prepared")
        others = [prepare(find_layout(raw), Path(scratch) / str(n)) for n, raw in enumerate(args.other)]
    statistics = Statistics(Path(prepared.meta["root"]))
    splits = [split(prepared, args.train_people, args.eval_people, seed) for seed in range(args.splits)]
    samples = [sample_photos(each) for each in splits]
    print(f"{args.train_people} training people, {args.eval_people} eval people")
    print("| eval photos | n | raised | AUC, smallest | AUC, largest | threshold, smallest | threshold, largest |")
    print("|---|---|---|---|---|---|---|")

    def print_row(
        title: str, train_samples: list, evaluations: list[np.ndarray], eval_people: int = args.eval_people
    ) -> None:
        shifts = [
            measure_shift(statistics(list(images.path)), images.person_id.to_numpy(), evaluation, eval_people)
            for (images, _), evaluation in zip(train_samples, evaluations, strict=True)
        ]
        results = [shift for shift in shifts if shift is not None]
        if not results:
            print(f"| {title}: too few people | 0 | | | | | |")
            return
        ends = [f"{end(r[key] for r in results):.3f}" for key in ("auc", "threshold") for end in (min, max)]
        num_warnings = sum(result["differs"] for result in results)
        differences = f" ({', '.join(results[0]['differences'])})" if num_warnings else ""
        print(f"| {title}{differences} | {len(results)} | {num_warnings} | {' | '.join(ends)} |", flush=True)

    print_row("not changed", samples, [statistics(list(evaluation.path)) for _, evaluation in samples])
    if args.only_splits:
        return
    first = samples[: args.changed_splits]
    for name, change in CHANGES.items():
        print_row(name, first, [statistics(list(evaluation.path), name, change) for _, evaluation in first])
    for raw, other in zip(args.other, others, strict=True):
        other_splits = [split(other, 0, args.eval_people, seed) for seed in range(args.changed_splits)]
        paths = [list(sample_photos(each)[1].path) for each in other_splits]
        print_row(f"of {raw.name}", first, [Statistics(Path(other.meta["root"]))(each) for each in paths])
    for title, rows in groups(prepared).items():
        parts = [part(each, rows) for each in splits[: args.changed_splits]]
        eval_people = round(np.mean([len(each.eval_table) for each in parts]) / PHOTOS_PER_PERSON)
        print_row(title, first, [statistics(list(sample_photos(each)[1].path)) for each in parts], eval_people)


def split(prepared: Prepared, train_people: int, eval_people: int, seed: int) -> Prepared:
    """The data with the first people of a random order as training set and the next as eval set."""
    order = np.random.default_rng(seed).permutation(prepared.folds.person_id.to_numpy())
    images, folds = prepared.images, prepared.folds
    evaluation = images[images.person_id.isin(order[train_people : train_people + eval_people])]
    train = order[:train_people]
    return replace(
        prepared,
        images=images[images.person_id.isin(train)],
        folds=folds[folds.person_id.isin(train)],
        evaluation=evaluation,
    )


def groups(prepared: Prepared) -> dict[str, Callable]:
    """Functions that select a part of the eval set with other class frequencies."""
    return {
        "only women": lambda table: table.gender == "female",
        "only people below the median age": lambda table: table.age < prepared.folds.age.median(),
        "only photos with a correctly worn mask": lambda table: table["mask"] == 0,
    }


def part(prepared: Prepared, rows: Callable) -> Prepared:
    """Return the data with a part of the eval set."""
    evaluation = prepared.eval_table
    return replace(prepared, evaluation=evaluation[rows(evaluation)])


if __name__ == "__main__":
    run(main)
