"""The data card: origin of the photos, uses that are excluded, and limits of the labels.

It follows Gebru et al. 2021, Datasheets for Datasets. Facts that the files do not contain are stated as unknown.
"""

from html import escape
from pathlib import PurePath

import numpy as np
import pandas as pd

from maskfold.data.images_table import Prepared
from maskfold.labels import AGE_BORDERS, AGE_GROUPS, GENDERS, age_group
from maskfold.pages.html_page import table


def data_card(prepared: Prepared, error_rates: dict[str, float]) -> str:
    """Return the data card as HTML.

    error_rates: axis -> estimated share of wrong labels, 0 to 1, for axes with evidence of wrong labels.
    """
    parts = {
        "Origin": _origin(prepared),
        "Uses that are excluded": [
            "The photos and models must not be used to recognise, identify or track a person.",
            "They must not be used for decisions about a person: admission, employment, insurance, policing or health. "
            "The scores above are means, and they differ between groups of people.",
            "They must not be used to determine the gender or age of a person: a model predicts only the label that an "
            "annotator would have given the photo.",
            "They must not be used on people, cameras or masks that the data does not contain, such as children or "
            "other ways to wear a mask. The scores above do not measure the error there.",
        ],
        "Limits of the labels": _label_limits(prepared, error_rates),
    }
    lists = "".join(
        f"<h3>{escape(title)}</h3><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
        for title, lines in parts.items()
    )
    return _people(prepared.people) + lists


def _people(people: pd.DataFrame) -> str:
    counts = np.zeros((len(GENDERS), len(AGE_GROUPS)), int)
    np.add.at(counts, (people.gender.map(GENDERS.index), age_group(people.age)), 1)
    rows = [[gender, *(f"{count:,}" for count in row)] for gender, row in zip(GENDERS, counts, strict=True)]
    return table("People by gender and age group", ["gender", *AGE_GROUPS], rows)


def _origin(prepared: Prepared) -> list[str]:
    meta, counts = prepared.meta, prepared.meta["counts"]
    corrections = meta["corrections"]
    lines = [
        f"{counts['people']:,} people, {counts['images']:,} training photos and {counts['eval_images']:,} eval photos, "
        # Show only the folder's name, so that the page does not depend on where the data is.
        f"read from {PurePath(meta['root']).name}; fingerprint {meta['fingerprint']}.",
        "The files do not say who took the photos, who made the labels, which licence applies, or whether the people "
        "consented to this use. Ask the provider of the data before you share a photo, a report or a model.",
        f"Corrections applied: {len(corrections['changed'])} ({PurePath(corrections['file']).name})."
        if corrections
        else "No label was corrected.",
    ]
    return lines + [f"Warning from prepare.py: {warning}" for warning in meta["warnings"]]


def _label_limits(prepared: Prepared, error_rates: dict[str, float]) -> list[str]:
    people = prepared.people
    old = people.age[age_group(people.age) == len(AGE_GROUPS) - 1]
    young, oldest = AGE_BORDERS
    lines = [
        "Gender has two values, which annotators assigned. It does not describe a person's gender identity.",
        f"Ages are whole years from {people.age.min()} to {people.age.max()}. At the borders {young} and {oldest} one "
        f"year changes the class: {(people.age - young).between(-1, 0).sum():,} people are {young - 1} or {young}, "
        f"{(people.age - oldest).between(-1, 0).sum():,} are {oldest - 1} or {oldest}. A photo can't show a difference "
        "of one year.",
        "The class 'incorrect' covers every incorrect way to wear a mask.",
        "The seven photos of a person may have been taken on the same day, with the same camera and light. They count "
        "as one person, not as seven.",
    ]
    if len(old) and (old == old.iloc[0]).all():
        lines.append(f"All people of the oldest group are {old.iloc[0]} years old: the data contains nobody older.")
    elif not len(old):
        lines.append(f"Nobody in the data is {oldest} years old or older.")
    lines += [f"An estimated {rate:.1%} of the people have a wrong {axis} label." for axis, rate in error_rates.items()]
    return lines
