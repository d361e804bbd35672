"""What was taken for what, and the surest of the wrong answers."""

import numpy as np

from maskfold.labels import AXES, CLASS_NAMES, decode
from maskfold.probabilities import OutOfFold

# As many as a page shows.
MISTAKES = 24


def confusions(oof: OutOfFold) -> list[tuple[str, tuple[str, ...], list[list]]]:
    """(name, classes, rows) of the 18 classes and of each axis; a row is a true class and its answers' counts."""
    answers = {"classes": (oof.label, oof.pred_labels, CLASS_NAMES)}
    pairs = zip(AXES.items(), decode(oof.label), decode(oof.pred_labels), strict=True)
    answers |= {axis: (true, said, names) for (axis, names), true, said in pairs}
    found = []
    for name, (true, said, names) in answers.items():
        counts = np.zeros((len(names), len(names)), int)
        np.add.at(counts, (true, said), 1)
        found.append((name, names, [[names[at], *row] for at, row in enumerate(counts.tolist())]))
    return found


def most_confident(oof: OutOfFold, wrong: bool) -> list[int]:
    """Rows of the incorrect (wrong=True) or correct predictions, the most confident first."""
    order = np.argsort(-oof.probs.max(1), kind="stable")
    return order[(oof.pred_labels != oof.label)[order] == wrong].tolist()


def worst_mistakes(oof: OutOfFold, most: int = MISTAKES) -> list[tuple[int, str, str, str, float]]:
    """(row, image_id, true class, answer, its probability) of the surest wrong answers, the surest first."""
    answers = oof.pred_labels
    return [
        (at, str(oof.image_id[at]), CLASS_NAMES[oof.label[at]], CLASS_NAMES[answers[at]], float(oof.probs[at].max()))
        for at in most_confident(oof, wrong=True)[:most]
    ]
