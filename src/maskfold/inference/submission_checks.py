"""What makes a submission look wrong before anyone scores it."""

from pathlib import Path

import numpy as np
from scipy.stats import chi2_contingency, chisquare

from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.fileio import sha256
from maskfold.inference.answer_csv import read_answers
from maskfold.inference.manifest import manifests_in
from maskfold.labels import AXES, KIND_MASK, PHOTOS_PER_PERSON, decode

# So small that chance alone gives it to one submission in a thousand.
LEAST_P = 0.001
NEAR_IDENTICAL = 0.995


def unlikely_shares(answers: np.ndarray, prepared: Prepared) -> list[str]:
    """A warning an axis whose predicted shares are far from what they should be; answers int [N], 0..17.

    The mask axis is known, 5 worn, 1 incorrect and 1 not worn a person: a chi-square test of the photos against it.
    Gender and age are compared with the training people's, a person's seven photos counted as one.
    """
    warnings = []
    people = prepared.images.drop_duplicates("person_id")
    for at, (axis, names) in enumerate(AXES.items()):
        counts = np.bincount(decode(answers)[at], minlength=len(names))
        if axis == "mask":
            expected = np.bincount(list(KIND_MASK.values())) / PHOTOS_PER_PERSON
            p = chisquare(counts, expected * counts.sum()).pvalue
        else:
            trained = np.bincount(decode(people.label.to_numpy())[at], minlength=len(names))
            expected, both = trained / trained.sum(), np.stack([trained, counts / PHOTOS_PER_PERSON])
            present = both.sum(0) > 0
            p = chi2_contingency(both[:, present], correction=False).pvalue if present.sum() > 1 else 1.0
        if p < LEAST_P:
            shares = ", ".join(
                f"{name} {had:.1%} (expected {want:.1%})"
                for name, had, want in zip(names, counts / counts.sum(), expected, strict=True)
            )
            warnings.append(f"{axis}: predicted shares are unlikely (chi-square, p = {p:.1g}): {shares}")
    return warnings


def agreements(out: Path, eval_fingerprint: str) -> list[tuple[str, float]]:
    """(name, share of equal answers) of the earlier submissions beside `out` for the same photos, most alike first."""
    mine, found = read_answers(out).set_index("ImageID").ans, []
    for path, manifest in manifests_in(out.parent).items():
        csv = path.with_suffix(".csv")
        if csv == out or manifest.get("eval") != eval_fingerprint or not csv.exists():
            continue
        try:
            if sha256(csv) != manifest.get("csv_sha256"):
                continue
            other = read_answers(csv).set_index("ImageID").ans
        except UserError:
            # Edited by hand since: nobody's answers to compare with.
            continue
        if set(other.index) == set(mine.index):
            found.append((path.stem, float((other[mine.index] == mine).mean())))
    return sorted(found, key=lambda pair: -pair[1])
