"""Find signs of a mistake in a submission before it is scored: unlikely class shares, or a near copy of another one."""

from pathlib import Path

import numpy as np
from scipy.stats import chi2_contingency, chisquare

from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.fileio import sha256
from maskfold.inference.manifest import manifests_in
from maskfold.inference.submission_csv import read_submission
from maskfold.labels import AXES, KIND_MASK, PHOTOS_PER_PERSON, decode_label

# On each axis, one correct submission in a thousand has a smaller p-value by chance.
MIN_P_VALUE = 0.001
# Share of equal labels from which two submissions are reported as nearly the same.
NEAR_IDENTICAL = 0.995


def unlikely_shares(pred_labels: np.ndarray, prepared: Prepared) -> list[str]:
    """Return a warning for each axis whose predicted class shares are unlikely; pred_labels: int [N], 0..17.

    The true shares of the mask axis are known: 5 worn, 1 incorrect and 1 not worn per person. A chi-square test
    compares the predictions with them. For gender and age, the expected shares are those of the training set, and a
    person's seven photos count as one.
    """
    warnings = []
    people = prepared.images.drop_duplicates("person_id")
    for index, (axis, names) in enumerate(AXES.items()):
        counts = np.bincount(decode_label(pred_labels)[index], minlength=len(names))
        if axis == "mask":
            expected = np.bincount(list(KIND_MASK.values())) / PHOTOS_PER_PERSON
            p = chisquare(counts, expected * counts.sum()).pvalue
        else:
            train_counts = np.bincount(decode_label(people.label.to_numpy())[index], minlength=len(names))
            expected, both = train_counts / train_counts.sum(), np.stack([train_counts, counts / PHOTOS_PER_PERSON])
            present = both.sum(0) > 0
            p = chi2_contingency(both[:, present], correction=False).pvalue if present.sum() > 1 else 1.0
        if p < MIN_P_VALUE:
            shares = ", ".join(
                f"{name} {share:.1%} (expected {expected_share:.1%})"
                for name, share, expected_share in zip(names, counts / counts.sum(), expected, strict=True)
            )
            warnings.append(f"{axis}: predicted class shares are unlikely (chi-square, p = {p:.1g}): {shares}")
    return warnings


def agreements(out: Path, eval_fingerprint: str) -> list[tuple[str, float]]:
    """Compare `out` with the other submissions in its folder that predict the same photos.

    Returns (name, share of equal labels) of each of them, the largest share first.
    """
    labels, shares = read_submission(out).set_index("ImageID").ans, []
    for path, manifest in manifests_in(out.parent).items():
        csv = path.with_suffix(".csv")
        if csv == out or manifest.get("eval") != eval_fingerprint or not csv.exists():
            continue
        try:
            # A CSV that was edited by hand is no longer the submission of its manifest.
            if sha256(csv) != manifest.get("csv_sha256"):
                continue
            other_labels = read_submission(csv).set_index("ImageID").ans
        except UserError:
            # The CSV was edited just after its hash was computed, or its manifest was edited too.
            continue
        if set(other_labels.index) == set(labels.index):
            shares.append((path.stem, float((other_labels[labels.index] == labels).mean())))
    return sorted(shares, key=lambda pair: -pair[1])
