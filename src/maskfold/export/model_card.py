"""The model card of an export: README.md with metadata that huggingface_hub reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from maskfold.config.experiment import Config, fixed_values
from maskfold.export.card_texts import (
    FACTORED_TIMM_USE,
    FILES,
    INTENDED_USE,
    JOINT_TIMM_USE,
    LICENCE,
    ONNX_USE,
    PREPROCESSING,
    TIMM_CROP,
)
from maskfold.labels import CLASS_NAMES
from maskfold.metrics.calibration import assess_calibration
from maskfold.metrics.group_scores import scores_by_group
from maskfold.metrics.score_text import METRIC_TITLES, ci_text
from maskfold.probabilities import OutOfFold, load_predictions
from maskfold.runs.run_folder import RunFolder


@dataclass(frozen=True)
class CardFacts:
    """What was exported. summary: content of summary.json, None without a finished fold. parts: the exported models.

    difference: largest difference of a probability between model.onnx in fp32 and PyTorch.
    """

    run: RunFolder
    config: Config
    summary: dict[str, Any] | None
    parts: Sequence[str]
    views: Sequence[str]
    temperature: float
    half: bool
    difference: float


def model_card(facts: CardFacts, has_heads_in_timm: bool) -> str:
    """The text of README.md. It contains no photo, no person id and no path."""
    timm_use = JOINT_TIMM_USE if has_heads_in_timm else FACTORED_TIMM_USE
    sections = {
        "Task": _task(facts),
        "Files": FILES,
        "Intended use and misuse": INTENDED_USE,
        **({} if facts.summary is None else _score_sections(facts, facts.summary)),
        "Preprocessing": _preprocessing(facts.config),
        "Use with onnxruntime": ONNX_USE,
        "Use with timm": timm_use.replace("PART", facts.parts[0]) + "\n\n" + TIMM_CROP[facts.config.data.crop],
        "Provenance": _provenance(facts),
        "Licence": LICENCE,
    }
    body = "\n".join(f"## {title}\n\n{text.strip()}\n" for title, text in sections.items())
    return f"---\n{_metadata(facts)}---\n\n# {facts.run.name}\n\n{body}"


def _metadata(facts: CardFacts) -> str:
    """The metadata as YAML, with the fields of Hugging Face's model cards."""
    content: dict[str, Any] = {
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "onnx", "maskfold"],
        "license": "other",
        "license_name": "see-the-section-licence",
    }
    if facts.summary is not None:
        metrics = [
            {"type": kind, "name": f"out-of-fold {METRIC_TITLES[key]}", "value": round(facts.summary["oof"][key], 4)}
            for key, kind in (("macro_f1", "f1"), ("accuracy", "accuracy"))
        ]
        dataset = {"type": "private", "name": "mask x gender x age, seven photos per person"}
        result = {"task": {"type": "image-classification"}, "dataset": dataset, "metrics": metrics}
        content["model-index"] = [{"name": facts.run.name, "results": [result]}]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _task(facts: CardFacts) -> str:
    num = len(facts.parts)
    members = "one model" if num == 1 else f"{num} models, whose probabilities are averaged"
    classes = "\n".join(f"| {label} | {name} |" for label, name in enumerate(CLASS_NAMES))
    return (
        f"The model classifies a photo of one face by mask (worn, incorrect, not worn), gender as labelled in the data "
        f"(male, female) and age group (under 30, 30 to 59, 60 and over): {len(CLASS_NAMES)} classes. `model.onnx` "
        f"contains {members} ({', '.join(facts.parts)}), and the TTA views {', '.join(facts.views)}.\n\n"
        f"| label | mask, gender, age |\n|---|---|\n{classes}"
    )


def _score_sections(facts: CardFacts, summary: dict[str, Any]) -> dict[str, str]:
    oof = load_predictions(facts.run.folder / "oof.npz", out_of_fold=True)
    return {
        "Data": _data(oof, summary),
        "Scores": _scores(facts, summary),
        "Scores by group": _groups(scores_by_group(oof)),
        "Calibration": _calibration(facts, oof),
    }


def _data(oof: OutOfFold, summary: dict[str, Any]) -> str:
    return (
        f"The models were trained on {len(oof.label):,} photos of {len(set(oof.person_id.tolist())):,} people, seven "
        f"per person. Dataset fingerprint: `{summary['dataset']}`. The photos may not be passed on, and this folder "
        "contains none. The people in the data are not a random sample of any population, and the labels of gender and "
        "age may be wrong."
    )


def _scores(facts: CardFacts, summary: dict[str, Any]) -> str:
    whole = summary["oof"]
    rows = [f"| {title} | {whole[name]:.4f} | {ci_text(whole[f'{name}_ci95'])} |" for name, title in _titles().items()]
    incomplete = (
        "" if summary["complete"] else " Not all folds were trained: the scores are those of the finished folds."
    )
    return (
        "Out-of-fold scores: each photo is predicted by a single model that was not trained on any photo of this "
        "person, without TTA. The intervals are 95 % over people. The mean of several models and TTA usually score "
        f"higher. Weights: {summary['selection']}.{incomplete}\n\n"
        "| metric | score | 95 % interval |\n|---|---|---|\n" + "\n".join(rows)
    )


def _titles() -> dict[str, str]:
    return {
        name: title if "_f1" in name or title == "accuracy" else f"{title} accuracy"
        for name, title in METRIC_TITLES.items()
    }


def _groups(table: pd.DataFrame) -> str:
    rows = [
        f"| {name} | {row.people:,} | {row.accuracy:.3f} | {_interval(row.accuracy_ci95)} | {row.f1:.3f} "
        f"| {100 * row.gap:+.1f} | {row.calibration_error:.3f} |"
        for name, row in table.iterrows()
    ]
    header = "| group | people | accuracy | 95 % interval | mean F1 | gap | ECE |\n|---|---|---|---|---|---|---|\n"
    return (
        "The gap is the accuracy minus the accuracy of all other people, in percentage points. ECE is the expected "
        "calibration error. The groups follow the labels of the data. A group of a few people says little.\n\n"
        + header
        + "\n".join(rows)
    )


def _interval(bounds: Sequence[float] | None) -> str:
    return "-" if bounds is None else ci_text(bounds, 3)


def _calibration(facts: CardFacts, oof: OutOfFold) -> str:
    before, after, fitted = assess_calibration(oof)
    text = f"The expected calibration error of the out-of-fold predictions is {before.error:.3f}"
    if after is not None:
        text += f", and {after.error:.3f} after scaling with temperatures that are fitted on the other folds"
    text += f". The temperature fitted on all out-of-fold predictions is {fitted:.3f}. "
    if facts.temperature == 1:
        return text + "This export applies no temperature. Its probabilities are those of `predict.py`."
    return text + f"This export applies the temperature {facts.temperature:.3f} to the mean of the probabilities."


def _preprocessing(config: Config) -> str:
    data = config.data
    height, width = data.image_size
    size = f"{data.crop_size[0]}x{data.crop_size[1]} pixels (height x width)"
    crop = {
        "none": "The whole photo is used.",
        "center": f"The photo is cropped to the centre {size}.",
        "face": (
            "The photo is cropped around the largest face that the detector YuNet finds, with a margin of "
            f"{data.face_margin:g} face heights above and below; without a face, to the centre {size}."
        ),
    }.get(data.crop, f"The crop is `{data.crop}`.")
    text = f"{crop} Then it is resized to {height}x{width}. {PREPROCESSING}"
    if data.decode == "reduced":
        text += (
            " In training, large JPEG files were decoded at reduced size, which changes pixels a little. For the same "
            "file, other programs may thus give slightly different probabilities."
        )
    return text


def _provenance(facts: CardFacts) -> str:
    provenance = facts.run.provenance
    versions = ", ".join(f"{name} {version}" for name, version in provenance.get("versions", {}).items() if version)
    weights = "fp16, converted to fp32 at load" if facts.half else "fp32"
    return (
        f"- run `{facts.run.name}`, backbone `{fixed_values(facts.config)['model.backbone']}`, head "
        f"`{facts.config.model.head}`, configuration `{provenance['config_hash']}`\n"
        f"- code `{provenance.get('git_commit') or 'unknown'}`, trained with {versions}\n"
        f"- stored weights: {weights}; largest difference from PyTorch before that: {facts.difference:.1e}"
    )
