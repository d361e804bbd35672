"""Where models looked: Grad-CAM of wrong answers beside right ones."""

from dataclasses import dataclass
from html import escape

import numpy as np

from maskfold.data.images_table import Prepared
from maskfold.errors import UserError
from maskfold.labels import CLASS_NAMES
from maskfold.loading.store import Store
from maskfold.metrics.confusion import most_confident
from maskfold.pages.html_page import note, photo
from maskfold.probabilities import OutOfFold
from maskfold.runs.run_folder import RunFolder

# Wrong answers that are explained, each beside a right one.
PAIRS = 6
# How much is left of what an answer does not rest on, in shares of its brightness.
DARKEST = 0.2


@dataclass(frozen=True)
class Explained:
    """A photo as the model saw it, uint8 [H, W, 3], and what its answer rests on, float [H, W] from 0 to 1."""

    image_id: str
    is_right: bool
    words: str
    seen: np.ndarray
    heat: np.ndarray

    @property
    def lit(self) -> np.ndarray:
        """The photo, darker where the answer does not rest on it: it can be read without colours."""
        return (self.seen * (DARKEST + (1 - DARKEST) * self.heat[..., None])).astype(np.uint8)


def pairs(oof: OutOfFold) -> list[tuple[int, int]]:
    """(wrong, right) rows: the surest wrong answers, of people of their own, and the surest right ones of their class.

    A class without a right answer lends none.
    """
    found = []
    people: set[str] = set()
    right = most_confident(oof, wrong=False)
    for row in most_confident(oof, wrong=True):
        person = oof.person_id[row]
        kin = [at for at in right if oof.label[at] == oof.label[row] and oof.person_id[at] not in people | {person}]
        if person not in people and kin:
            found.append((row, kin[0]))
            people |= {person, oof.person_id[kin[0]]}
        if len(found) == PAIRS:
            break
    return found


def explained(run: RunFolder, oof: OutOfFold, prepared: Prepared, store: Store) -> list[Explained]:
    """Wrong answers and right ones in turn, each by the model of its own fold.

    Raises ImportError without the extra `explain`, ValueError for a backbone that Grad-CAM can't look into, UserError
    where a fold's weights are gone.
    """
    from maskfold.report.gradcam import heatmaps

    rows, answers = [row for pair in pairs(oof) for row in pair], oof.pred_labels
    place = prepared.row_indices(oof.image_id)
    maps = heatmaps(run, [(int(oof.fold[row]), store[place[row]], int(answers[row])) for row in rows])
    found = []
    for row, (seen, heat) in zip(rows, maps, strict=True):
        is_right, said = bool(answers[row] == oof.label[row]), CLASS_NAMES[answers[row]]
        words = f"{'right' if is_right else 'wrong'}: {said} ({oof.probs[row].max():.2f})"
        words += "" if is_right else f", is {CLASS_NAMES[oof.label[row]]}"
        found.append(Explained(str(oof.image_id[row]), is_right, words, seen, heat))
    return found


def where_it_looked(run: RunFolder, oof: OutOfFold, prepared: Prepared, store: Store) -> str:
    """Grad-CAM of wrong answers beside right ones of their class, as HTML; in a sentence why not, where it can't be."""
    try:
        shown = explained(run, oof, prepared, store)
    except ImportError:
        return note(
            "Grad-CAM is not installed; this does: pip install 'maskfold[explain]' (in a checkout: '.[explain]')"
        )
    except ValueError as fault:
        return note(f"Grad-CAM can't look into {run.config.model.backbone}: {fault}")
    except UserError as fault:
        return note(f"Grad-CAM has no model to look into: {fault}")
    if not shown:
        return note("There is no wrong answer whose class has a right one too.")
    cells = [
        f"<figure class='pair'>{photo(each.seen, each.image_id)}{photo(each.lit, f'{each.image_id}, Grad-CAM')}"
        f"<figcaption><code>{escape(each.image_id)}</code><br>{escape(each.words)}</figcaption></figure>"
        for each in shown
    ]
    said = (
        "On the left of each pair the surest wrong answers, on its right a right one of the same class: the photo as "
    )
    said += "the model of its own fold saw it, and the same, dark where the answer does not rest on it (Grad-CAM)."
    return note(said) + f"<div class='row'>{''.join(cells)}</div>"
