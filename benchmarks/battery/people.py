"""The data of the battery: synthetic people, and a folder of the competition's size with many copies of them."""

import os
from pathlib import Path

import pandas as pd

from battery.context import Context
from battery.section_runner import Recorder
from maskfold.data.prepared_folder import PrepareOptions, prepare
from maskfold.data.raw_layout import find_layout
from maskfold.synthetic.demo_data import make_demo

FOLDS = 4
# 90 people x 30 copies are the competition's 2,700 people.
PEOPLE, EVAL_PEOPLE, COPIES = 90, 6, 30
TINY_PEOPLE, TINY_COPIES = 12, 2


def make_data(context: Context, record: Recorder) -> None:
    """Render the people into data/, copy them into large/, and prepare both."""
    people, copies = (TINY_PEOPLE, TINY_COPIES) if context.tiny else (PEOPLE, COPIES)
    make_demo(context.scratch / "data", people, EVAL_PEOPLE, seed=0)
    copy_people(context.scratch / "data", context.scratch / "large", copies)
    for data in ("data", "large"):
        prepared = prepare(find_layout(context.scratch / data), context.prepared_folder(data), PrepareOptions(FOLDS))
        record.row(f"training photos in {data}/", len(prepared.images), "photos")


def copy_people(raw: Path, out: Path, copies: int) -> None:
    """Write a data folder in which each person occurs `copies` times under other ids; the photos are hard links."""
    table = pd.read_csv(raw / "train" / "train.csv", dtype=str)
    tables = []
    for number in range(copies):
        ids = [f"{number:02d}{name[2:]}" for name in table.id]
        paths = [new + path[len(old) :] for new, old, path in zip(ids, table.id, table.path, strict=True)]
        for old_path, path in zip(table.path, paths, strict=True):
            folder = out / "train" / "images" / path
            folder.mkdir(parents=True)
            for photo in (raw / "train" / "images" / old_path).iterdir():
                os.link(photo, folder / photo.name)
        tables.append(table.assign(id=ids, path=paths))
    pd.concat(tables).to_csv(out / "train" / "train.csv", index=False)
    (out / "eval").symlink_to(raw / "eval")
