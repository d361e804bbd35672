"""How scores are written for people: titles of metrics, and intervals."""

from collections.abc import Sequence

# Title of the column by metric.
METRIC_TITLES = {
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "mask_accuracy": "mask",
    "gender_accuracy": "gender",
    "age_accuracy": "age",
}


def ci_text(bounds: Sequence[float] | None, digits: int = 4) -> str:
    """An interval as text, `[low, high]`; None for an interval that needs an eval set."""
    return "none (no eval set)" if bounds is None else f"[{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"
