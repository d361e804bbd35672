"""The data card: where the photos come from, what they must not be used for, and what their labels can't say.

After Gebru et al. 2021, Datasheets for Datasets. What the files can't tell is said to be unknown.
"""

from html import escape

import numpy as np
import pandas as pd

from maskfold.data.images_table import Prepared
from maskfold.labels import AGE_BORDERS, AGE_GROUPS, GENDERS, age_group
from maskfold.pages.html_page import note, table


def data_card(prepared: Prepared, wrong: dict[str, float]) -> str:
    """As HTML. wrong: estimated share of wrong labels by axis, of those axes where any are evident."""
    parts = {
        "Where it comes from": _origin(prepared),
        "What it must not be used for": [
            "To recognise, single out or track anybody: the photos show people who are not to be found by them.",
            "To decide about a person: admission, employment, insurance, policing or health. The scores above are "
            "means over groups, and groups may be served very unlike.",
            "To tell somebody's gender or age: the answer is what labellers would have written beside the photo.",
            "On people, cameras or masks that are not in it: other origins than train.csv names, children, other ways "
            "of wearing a mask. Nothing here measures how wrong the answers would be.",
        ],
        "What the labels can't say": _silence(prepared, wrong),
    }
    lists = "".join(
        f"<h3>{escape(title)}</h3><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
        for title, lines in parts.items()
    )
    return note("People by gender and age group:") + _people(prepared.people) + lists


def _people(people: pd.DataFrame) -> str:
    counts = np.zeros((len(GENDERS), len(AGE_GROUPS)), int)
    np.add.at(counts, (people.gender.map(GENDERS.index), age_group(people.age)), 1)
    rows = [[gender, *(f"{count:,}" for count in row)] for gender, row in zip(GENDERS, counts, strict=True)]
    return table(["gender", *AGE_GROUPS], rows)


def _origin(prepared: Prepared) -> list[str]:
    meta, counts = prepared.meta, prepared.meta["counts"]
    applied = meta["corrections"]
    lines = [
        f"{counts['people']:,} people, {counts['images']:,} photos, {counts['eval_images']:,} eval photos, read from "
        f"{meta['root']}; fingerprint {meta['fingerprint']}.",
        "Who took the photos, by whom the labels were made, under which licence, and whether the people agreed to this "
        "use is not in the files: ask whoever gave them to you, before passing on a photo, a report or a model.",
        f"Corrections applied: {len(applied['changed'])} ({applied['file']})."
        if applied
        else "No label was corrected.",
    ]
    return lines + [f"Told while preparing: {warning}" for warning in meta["warnings"]]


def _silence(prepared: Prepared, wrong: dict[str, float]) -> list[str]:
    people = prepared.people
    old = people.age[age_group(people.age) == len(AGE_GROUPS) - 1]
    young, oldest = AGE_BORDERS
    lines = [
        "Gender has two values, given by others. It says nothing of how somebody sees themselves.",
        f"Ages are in whole years, from {people.age.min()} to {people.age.max()}. At {young} and {oldest} one year "
        f"decides about the class: {(people.age - young).between(-1, 0).sum():,} people are {young - 1} or {young}, "
        f"{(people.age - oldest).between(-1, 0).sum():,} are {oldest - 1} or {oldest}, and no photo shows which.",
        "'incorrect' is one label, in whatever way a mask is worn wrongly.",
        "Seven photos of a person may share light, camera and day, of which the files say nothing. They are not seven "
        "people.",
    ]
    if len(old) and (old == old.iloc[0]).all():
        lines.append(
            f"Everybody of the oldest group has the same age, {old.iloc[0]}: nothing is known of older people."
        )
    elif not len(old):
        lines.append(f"Nobody is {oldest} or more: nothing is known of older people.")
    lines += [f"An estimated {share:.1%} of the people have a wrong label of {axis}." for axis, share in wrong.items()]
    return lines
