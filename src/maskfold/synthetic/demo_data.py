"""Make a synthetic dataset with the layout, class frequencies and irregularities of the competition's data.

No real people are shown. The dataset has train/train.csv, train/images, eval/info.csv, eval/images, and answers.csv
with the true labels of the eval set.
"""

import hashlib
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from maskfold.errors import UserError
from maskfold.fileio import read_json, write_json
from maskfold.labels import GENDERS, KIND_MASK, age_group, encode_label
from maskfold.progress import parallel_map
from maskfold.synthetic.rendering import render_photo, sample_appearance

# People by gender and age group in the real training set.
NUM_REAL_PEOPLE = {
    ("male", 0): 549,
    ("male", 1): 410,
    ("male", 2): 83,
    ("female", 0): 732,
    ("female", 1): 817,
    ("female", 2): 109,
}
# Ages in years and their sampling weights, by age group. They are similar to the real data, in which everybody in the
# oldest group is 60.
AGES = {
    0: (range(18, 30), (6, 10, 9, 8, 8, 7, 6, 5, 4, 1, 1, 1)),
    1: (range(30, 60), (1,) * 15 + (4,) * 15),
    2: ((60,), (1,)),
}


def make_demo(out: Path, people: int, eval_people: int, seed: int) -> bool:
    """Render the dataset into `out`; the same arguments give the same photos.

    Returns False if `out` already holds this dataset, and otherwise True. Raises UserError if `people` or `eval_people`
    is below the number of combinations of gender and age group, if the seed is negative, or if `out` holds anything
    else.
    """
    for flag, count in (("--people", people), ("--eval-people", eval_people)):
        if count < len(NUM_REAL_PEOPLE):
            raise UserError(
                f"{flag} {count} is too small; give at least {len(NUM_REAL_PEOPLE)}, one for each combination of "
                "gender and age group"
            )
    if seed < 0:
        raise UserError(f"--seed {seed} is negative; give at least 0")
    arguments = {"people": people, "eval_people": eval_people, "seed": seed}
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        conflict = f"{out} holds something other than this demo ({arguments}); use another --out or delete the folder"
        if read_json(out / "demo.json", conflict) != arguments:
            raise UserError(conflict)
        return False
    out = out.absolute()
    building = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        _write(building, people, eval_people, seed)
        write_json(building / "demo.json", arguments)
        if out.exists():
            out.rmdir()
        building.replace(out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return True


def sample_people(num_people: int, rng: np.random.Generator) -> pd.DataFrame:
    """Sample people (gender, age in years) with the real frequencies, at least one per gender and age group."""
    quotas = np.array(list(NUM_REAL_PEOPLE.values())) / sum(NUM_REAL_PEOPLE.values()) * num_people
    counts = np.maximum(1, np.floor(quotas)).astype(int)
    while counts.sum() != num_people:
        step = 1 if counts.sum() < num_people else -1
        counts[np.argmax(step * (quotas - counts) - 1e9 * ((counts + step) < 1))] += step
    rows = []
    for (gender, group), count in zip(NUM_REAL_PEOPLE, counts, strict=True):
        ages, weights = AGES[group]
        sampled = rng.choice(np.array(ages), count, p=np.array(weights) / sum(weights))
        rows += [(gender, int(age)) for age in sampled]
    return pd.DataFrame(rows, columns=["gender", "age"]).iloc[rng.permutation(num_people)].reset_index(drop=True)


def _write(out: Path, people: int, eval_people: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    train, evaluation = sample_people(people, rng), sample_people(eval_people, rng)
    train["id"] = _ids(train)
    train["path"] = [f"{row.id}_{row.gender}_Asian_{row.age}" for row in train.itertuples()]
    train["race"] = "Asian"
    jobs, answers = [], []
    for number, person in enumerate(train.itertuples()):
        endings = (".jpg",) * 36 + (".png", ".jpeg", ".JPG")
        ending = endings[int(rng.integers(len(endings)))]
        files = {kind: out / "train" / "images" / person.path / f"{kind}{ending}" for kind in KIND_MASK}
        if number == 1:
            files["normal"] = files["normal"].with_suffix(".png")
        jobs.append((person.gender, person.age, files, [seed, 0, number]))
    for number, person in enumerate(evaluation.itertuples()):
        files = {}
        for kind, mask in KIND_MASK.items():
            name = hashlib.sha1(f"{seed}/{number}/{kind}".encode()).hexdigest() + ".jpg"
            files[kind] = out / "eval" / "images" / name
            answers.append((name, encode_label(mask, GENDERS.index(person.gender), age_group(person.age)), number))
        jobs.append((person.gender, person.age, files, [seed, 1, number]))
    for _ in parallel_map(lambda job: _render_person(*job), jobs, "rendering people", "people"):
        pass
    # Add metadata files of macOS, because the real archive has some too.
    first = out / "train" / "images" / train.path[0]
    for path in (
        first.with_name(f"._{first.name}"),
        first / "._normal.jpg",
        out / "eval" / "images" / f"._{answers[0][0]}",
    ):
        path.write_bytes(b"\x00\x05\x16\x07")
    train[["id", "gender", "race", "age", "path"]].to_csv(out / "train" / "train.csv", index=False)
    truth = pd.DataFrame(answers, columns=["ImageID", "ans", "person"]).sort_values("ImageID")
    truth.to_csv(out / "answers.csv", index=False)
    truth[["ImageID"]].assign(ans=0).to_csv(out / "eval" / "info.csv", index=False)


def _ids(train: pd.DataFrame) -> list[str]:
    """Return ids of six digits with leading zeros; as in the real table, one id occurs twice and one id ends in -1.

    train: one row per person with gender and age; all six combinations of gender and age group must occur.
    """
    ids = [f"{number + 1:06d}" for number in range(len(train))]
    # The two people with the same id differ in gender or age, so that their folders have different names.
    differs = (train.gender != train.gender[2]) | (train.age != train.age[2])
    ids[next(row for row in (3, *range(6, len(train))) if differs[row])] = ids[2]
    ids[5] = f"{ids[4]}-1"
    return ids


def _render_person(gender: str, age: int, files: dict[str, Path], seed: list[int]) -> None:
    rng = np.random.default_rng(seed)
    person = sample_appearance(gender == "female", age, rng)
    for kind, path in files.items():
        wearing = {0: "correct", 1: str(rng.choice(["nose", "chin"], p=[0.6, 0.4])), 2: "none"}[KIND_MASK[kind]]
        photo = render_photo(person, wearing, rng)
        path.parent.mkdir(parents=True, exist_ok=True)
        options = [] if path.suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(82, 95))]
        _, encoded = cv2.imencode(path.suffix.lower(), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), options)
        path.write_bytes(encoded.tobytes())
