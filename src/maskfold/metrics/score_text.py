"""Scores as text: the titles of metrics, and intervals."""

from collections.abc import Sequence

# {metric: title of its column}.
METRIC_TITLES = {
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "mask_accuracy": "mask",
    "gender_accuracy": "gender",
    "age_accuracy": "age",
}


def ci_text(bounds: Sequence[float] | None, digits: int = 4) -> str:
    """An interval as text, `[low, high]`. bounds: None if the interval needs an eval set and there is none."""
    return "none (no eval set)" if bounds is None else f"[{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"
