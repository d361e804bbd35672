"""Export a run: model.onnx, check.json, a folder for timm per model, and a model card."""

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskfold.config.experiment import Config
from maskfold.errors import UserError
from maskfold.export.browser_page import write_page
from maskfold.export.check_inputs import check_content, model_inputs, source_photos
from maskfold.export.export_folder import (
    CARD_FILE,
    CHECK_FILE,
    MODEL_FILE,
    PAGE_FILE,
    TIMM_FOLDER,
    check_replaceable,
    complete_folder,
)
from maskfold.export.model_card import CardFacts, model_card
from maskfold.export.onnx_ensemble import ensemble_graph, store_half
from maskfold.export.onnx_graph import fold_graph
from maskfold.export.onnx_metadata import onnx_metadata
from maskfold.export.page_model import PageModel
from maskfold.export.parity import (
    MAX_DIFFERENCE,
    MAX_HALF_DIFFERENCE,
    Parity,
    check_parity,
    compared_batches,
    onnx_probs,
    torch_probs,
)
from maskfold.export.timm_folder import write_timm_folder
from maskfold.fileio import write_atomic, write_json, write_text
from maskfold.inference.loaded_run import preprocessed
from maskfold.metrics.calibration import MAX_TEMPERATURE, apply_temperature, fit_temperature
from maskfold.models.device import configure_process
from maskfold.models.tta import canonical_views
from maskfold.probabilities import load_predictions, mean_probs
from maskfold.progress import progress
from maskfold.runs.part_weights import finished_model
from maskfold.runs.run_folder import FULL, RunFolder, fold_name
from maskfold.runs.summary import summarise

# The packages of the extra `export`.
PACKAGES_OF_EXTRA = ("onnx", "onnxscript", "onnxruntime")
# Value of --temperature that fits it on the out-of-fold predictions.
FITTED = "oof"


@dataclass(frozen=True)
class ExportRequest:
    """What to export. folds: fold numbers, and `full` for the refit; None for all finished models, as for a submission.

    tta: TTA views. half: store weights as fp16. temperature: a number as text, or FITTED.
    """

    folds: Sequence[str] | None = None
    tta: Sequence[str] = ("none",)
    half: bool = False
    temperature: str = "1"


@dataclass(frozen=True)
class _Exported:
    """The graphs of the exported models (onnx.ModelProto), and their mean probabilities by PyTorch, [N, 18]."""

    graphs: list[Any]
    probs: np.ndarray
    has_heads_in_timm: bool


def export_run(run: RunFolder, out: Path, request: ExportRequest) -> list[str]:
    """Export a run into the folder `out`, from the run folder alone; return lines about the comparison with PyTorch.

    Raises UserError for a wrong request, missing packages, a folder that is not an export, and a model that cannot be
    exported; in all cases, nothing is written.
    """
    check_packages()
    check_replaceable(out)
    run.check_unedited()
    config, views = run.config, canonical_views(request.tta, "--tta")
    parts = _requested_parts(run, request.folds)
    temperature = _temperature(run, request.temperature)
    configure_process(torch.device("cpu"))
    inputs = model_inputs(config.data)
    batches = compared_batches(np.stack(list(inputs.values())))
    with complete_folder(out) as folder:
        exported = _export_parts(run, config, parts, views, batches, folder / TIMM_FOLDER)
        expected = exported.probs if temperature == 1 else apply_temperature(exported.probs, temperature)
        metadata = onnx_metadata(run, config, parts, views, temperature, request.half)
        model = ensemble_graph(exported.graphs, temperature, metadata, run.name)
        parity = check_parity(expected, onnx_probs(model.SerializeToString(), batches), MAX_DIFFERENCE, run.name)
        lines = [_parity_line(parity, "")]
        if request.half:
            for graph in (model, *exported.graphs):
                store_half(graph)
            actual = onnx_probs(model.SerializeToString(), batches)
            half_parity = check_parity(expected, actual, MAX_HALF_DIFFERENCE, run.name)
            lines.append(_parity_line(half_parity, " with weights stored as fp16"))
        content: bytes = model.SerializeToString()
        write_atomic(folder / MODEL_FILE, lambda path: path.write_bytes(content))
        sources = [preprocessed(photo, config.data)[None] for photo in source_photos().values()]
        input_probs = onnx_probs(content, [photo[None] for photo in inputs.values()])
        check = check_content(config.data, inputs, input_probs, onnx_probs(content, sources))
        write_json(folder / CHECK_FILE, check)
        summary = summarise(run) if run.finished_folds else None
        facts = CardFacts(run, config, summary, parts, views, temperature, request.half, parity.difference)
        write_text(folder / CARD_FILE, model_card(facts, exported.has_heads_in_timm))
        write_page(folder / PAGE_FILE, page_model_of(facts, exported.graphs, check))
    return lines


def check_packages() -> None:
    """Raise UserError if a package of the extra `export` is not installed."""
    missing = [name for name in PACKAGES_OF_EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"export.py needs {', '.join(missing)}; install with: pip install 'maskfold[export]' (in a checkout: "
            "pip install -e '.[export]')"
        )


def _requested_parts(run: RunFolder, folds: Sequence[str] | None) -> list[str]:
    """The names of the requested parts, each once. Raises UserError for one that is not finished."""
    finished = run.finished_parts
    if not finished:
        raise UserError(f"{run.folder}: no fold is finished; train it first")
    if folds is None:
        return finished
    available = ", ".join(part.removeprefix("fold") for part in finished)
    parts = []
    for fold in folds:
        part = fold if fold == FULL else fold_name(int(fold)) if fold.isascii() and fold.isdigit() else None
        if part not in finished:
            raise UserError(f"--folds {fold}: not a finished fold of {run.folder}; use {available}")
        parts.append(part)
    return [part for part in finished if part in parts]


def _temperature(run: RunFolder, text: str) -> float:
    if text == FITTED:
        oof = load_predictions(run.folder / "oof.npz", out_of_fold=True)
        return fit_temperature(oof.probs, oof.label)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 / MAX_TEMPERATURE <= value <= MAX_TEMPERATURE:
        raise UserError(
            f"--temperature {text} is not valid; give a number from {1 / MAX_TEMPERATURE:g} to {MAX_TEMPERATURE:g}, "
            f"or {FITTED}"
        )
    return value


def _export_parts(
    run: RunFolder, config: Config, parts: Sequence[str], views: Sequence[str], batches: list[np.ndarray], folder: Path
) -> _Exported:
    """Export one model after another, so that only one is in memory besides the graphs. folder: timm/."""
    graphs, probs, has_heads = [], [], []
    with progress(f"exporting {run.name}", len(parts), "models") as advance:
        for part in parts:
            model = finished_model(run, config, part, torch.device("cpu")).eval()
            probs.append(torch_probs(model, views, batches))
            graphs.append(fold_graph(model, views, config.data.image_size, config.model.backbone))
            has_heads.append(write_timm_folder(model, config, folder / part))
            advance(1)
    return _Exported(graphs, mean_probs(probs), all(has_heads))


def _parity_line(parity: Parity, what: str) -> str:
    return (
        f"largest difference from PyTorch{what}: {parity.difference:.1e}; equal labels: {parity.num_equal_labels} of "
        f"{parity.num_photos} test inputs"
    )


def page_model_of(facts: CardFacts, graphs: Sequence[Any], check: dict) -> PageModel:
    """What browser_page.write_page needs."""
    scores = facts.summary["oof"] if facts.summary else {}
    contents = [graph.SerializeToString() for graph in graphs]
    return PageModel(facts.run.name, contents, facts.temperature, facts.config.data, scores, check)
