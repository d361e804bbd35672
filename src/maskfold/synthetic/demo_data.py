"""A drawn dataset in the competition's layout, with its class mix and its quirks: no photograph of anyone is needed.

Writes train/train.csv, train/images, eval/info.csv, eval/images, and answers.csv, the truth of the eval side.
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
from maskfold.labels import GENDERS, KIND_MASK, age_group, encode
from maskfold.progress import parallel
from maskfold.synthetic.rendering import draw_look, draw_photo

# People by gender and age group in the real training set.
MIX = {("male", 0): 549, ("male", 1): 410, ("male", 2): 83, ("female", 0): 732, ("female", 1): 817, ("female", 2): 109}
# Ages within a group lean as the real ones do: students, parents, and an old group that is exactly 60.
AGES = {
    0: (range(18, 30), (6, 10, 9, 8, 8, 7, 6, 5, 4, 1, 1, 1)),
    1: (range(30, 60), (1,) * 15 + (4,) * 15),
    2: ((60,), (1,)),
}


def make_demo(out: Path, people: int, eval_people: int, seed: int) -> bool:
    """Draw the dataset into `out`; False where the same one is there already. The same arguments give the same photos.

    Raises UserError for a count too small for every gender x age group, or where `out` holds something else.
    """
    for flag, count in (("--people", people), ("--eval-people", eval_people)):
        if count < len(MIX):
            raise UserError(f"{flag} {count}: at least {len(MIX)}, one person a gender and age group")
    if seed < 0:
        raise UserError(f"--seed {seed}: at least 0")
    wanted = {"people": people, "eval_people": eval_people, "seed": seed}
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        other = f"{out} holds something other than this demo ({wanted}): choose another --out, or delete it"
        if read_json(out / "demo.json", other) != wanted:
            raise UserError(other)
        return False
    out = out.absolute()
    building = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        _write(building, people, eval_people, seed)
        write_json(building / "demo.json", wanted)
        if out.exists():
            out.rmdir()
        building.replace(out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return True


def draw_people(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """`n` people (gender, age in years) in the real mix, at least one a gender and age group, shuffled."""
    share = np.array(list(MIX.values())) / sum(MIX.values()) * n
    counts = np.maximum(1, np.floor(share)).astype(int)
    while counts.sum() != n:
        step = 1 if counts.sum() < n else -1
        counts[np.argmax(step * (share - counts) - 1e9 * ((counts + step) < 1))] += step
    rows = []
    for (gender, group), count in zip(MIX, counts, strict=True):
        ages, weights = AGES[group]
        drawn = rng.choice(np.array(ages), count, p=np.array(weights) / sum(weights))
        rows += [(gender, int(age)) for age in drawn]
    return pd.DataFrame(rows, columns=["gender", "age"]).iloc[rng.permutation(n)].reset_index(drop=True)


def _write(out: Path, people: int, eval_people: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    train, evaluation = draw_people(people, rng), draw_people(eval_people, rng)
    train["id"] = _ids(train)
    train["path"] = [f"{row.id}_{row.gender}_Asian_{row.age}" for row in train.itertuples()]
    train["race"] = "Asian"
    jobs, answers = [], []
    for n, person in enumerate(train.itertuples()):
        ending = (".jpg",) * 36 + (".png", ".jpeg", ".JPG")
        chosen = ending[int(rng.integers(len(ending)))]
        files = {kind: out / "train" / "images" / person.path / f"{kind}{chosen}" for kind in KIND_MASK}
        if n == 1:
            files["normal"] = files["normal"].with_suffix(".png")
        jobs.append((person.gender, person.age, files, [seed, 0, n]))
    for n, person in enumerate(evaluation.itertuples()):
        files = {}
        for kind, mask in KIND_MASK.items():
            name = hashlib.sha1(f"{seed}/{n}/{kind}".encode()).hexdigest() + ".jpg"
            files[kind] = out / "eval" / "images" / name
            answers.append((name, encode(mask, GENDERS.index(person.gender), age_group(person.age)), n))
        jobs.append((person.gender, person.age, files, [seed, 1, n]))
    for _ in parallel(lambda job: _draw_person(*job), jobs, "drawing people", "people"):
        pass
    # The real archive's macOS junk.
    first = out / "train" / "images" / train.path[0]
    for junk in (
        first.with_name(f"._{first.name}"),
        first / "._normal.jpg",
        out / "eval" / "images" / f"._{answers[0][0]}",
    ):
        junk.write_bytes(b"\x00\x05\x16\x07")
    train[["id", "gender", "race", "age", "path"]].to_csv(out / "train" / "train.csv", index=False)
    truth = pd.DataFrame(answers, columns=["ImageID", "ans", "person"]).sort_values("ImageID")
    truth.to_csv(out / "answers.csv", index=False)
    truth[["ImageID"]].assign(ans=0).to_csv(out / "eval" / "info.csv", index=False)


def _ids(train: pd.DataFrame) -> list[str]:
    """Six digits with leading zeros; as in the real table one id occurs twice and one ends in -1.

    train: one row per person with gender and age; it holds all six combinations of gender and age group.
    """
    ids = [f"{number + 1:06d}" for number in range(len(train))]
    # The two people with one id differ in gender or age, so that their folders have different names.
    differs = (train.gender != train.gender[2]) | (train.age != train.age[2])
    ids[next(row for row in (3, *range(6, len(train))) if differs[row])] = ids[2]
    ids[5] = f"{ids[4]}-1"
    return ids


def _draw_person(gender: str, age: int, files: dict[str, Path], seed: list[int]) -> None:
    rng = np.random.default_rng(seed)
    look = draw_look(gender == "female", age, rng)
    for kind, path in files.items():
        wearing = {0: "right", 1: str(rng.choice(["nose", "chin"], p=[0.6, 0.4])), 2: "none"}[KIND_MASK[kind]]
        photo = draw_photo(look, wearing, rng)
        path.parent.mkdir(parents=True, exist_ok=True)
        options = [] if path.suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(82, 95))]
        _, encoded = cv2.imencode(path.suffix.lower(), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), options)
        path.write_bytes(encoded.tobytes())
