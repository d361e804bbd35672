"""The Grad-CAM section of the report: incorrect predictions next to correct ones of the same class."""

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

# Maximum number of incorrect predictions that are shown, each next to a correct one.
MAX_PAIRS = 6
# Brightness of pixels whose heat is 0, as a share of their original brightness.
MIN_BRIGHTNESS = 0.2


@dataclass(frozen=True)
class GradcamExample:
    """A model input, RGB uint8 [H, W, 3], and the heat map of its prediction, float [H, W] from 0 to 1."""

    image_id: str
    is_correct: bool
    caption: str
    pixels: np.ndarray
    heat: np.ndarray

    @property
    def overlay(self) -> np.ndarray:
        """The photo, dark where the heat map is low. Unlike a colour map, it is readable for colour-blind people."""
        return (self.pixels * (MIN_BRIGHTNESS + (1 - MIN_BRIGHTNESS) * self.heat[..., None])).astype(np.uint8)


def error_pairs(oof: OutOfFold) -> list[tuple[int, int]]:
    """Return at most MAX_PAIRS pairs (row of an error, row of a correct prediction), most confident errors first.

    Both rows of a pair have the same true class, and all rows are of different people. Errors for which there is no
    such correct prediction are left out.
    """
    rows: list[tuple[int, int]] = []
    people: set[str] = set()
    correct = most_confident(oof, wrong=False)
    for row in most_confident(oof, wrong=True):
        person = oof.person_id[row]
        excluded = people | {person}
        partners = [
            other for other in correct if oof.label[other] == oof.label[row] and oof.person_id[other] not in excluded
        ]
        if person not in people and partners:
            rows.append((row, partners[0]))
            people |= {person, oof.person_id[partners[0]]}
        if len(rows) == MAX_PAIRS:
            break
    return rows


def gradcam_examples(run: RunFolder, oof: OutOfFold, prepared: Prepared, store: Store) -> list[GradcamExample]:
    """Explain the predictions of error_pairs() in order, each with the fold model that made it.

    Raises ImportError if the extra `explain` is not installed, ValueError for a backbone without a feature map,
    UserError if the weights of a fold are missing.
    """
    from maskfold.report.gradcam import heatmaps

    rows, predicted = [row for pair in error_pairs(oof) for row in pair], oof.pred_labels
    store_rows = prepared.row_indices(oof.image_id)
    maps = heatmaps(run, [(int(oof.fold[row]), store[store_rows[row]], int(predicted[row])) for row in rows])
    examples = []
    for row, (pixels, heat) in zip(rows, maps, strict=True):
        is_correct = bool(predicted[row] == oof.label[row])
        caption = "correct" if is_correct else "incorrect"
        caption += f": predicted {CLASS_NAMES[predicted[row]]} ({oof.probs[row].max():.2f})"
        caption += "" if is_correct else f", true {CLASS_NAMES[oof.label[row]]}"
        examples.append(GradcamExample(str(oof.image_id[row]), is_correct, caption, pixels, heat))
    return examples


def gradcam_section(run: RunFolder, oof: OutOfFold, prepared: Prepared, store: Store) -> str:
    """Return HTML: Grad-CAM of incorrect predictions next to correct ones, or the reason why it can't be shown."""
    try:
        examples = gradcam_examples(run, oof, prepared, store)
    except ImportError:
        return note(
            "Grad-CAM is not installed. Install it with: pip install 'maskfold[explain]' (in a checkout: '.[explain]')"
        )
    except ValueError as error:
        return note(f"Grad-CAM does not support {run.config.model.backbone}: {error}")
    except UserError as error:
        return note(f"Grad-CAM can't load a model: {error}")
    if not examples:
        return note("There is no pair of an incorrect and a correct prediction for two people of the same true class.")
    cells = [
        f"<figure class='pair'>{photo(each.pixels, each.image_id)}{photo(each.overlay, f'{each.image_id}, Grad-CAM')}"
        f"<figcaption><code>{escape(each.image_id)}</code><br>{escape(each.caption)}</figcaption></figure>"
        for each in examples
    ]
    return f"<div class='row'>{''.join(cells)}</div>"
