"""Measure functions in turns, compare medians, format the table."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Result:
    """Medians of `n` turns. A higher ratio ours / theirs is better for rates, a lower one for seconds or MB."""

    ours: float
    theirs: float
    n: int
    unit: str

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    def as_dict(self) -> dict:
        fields = asdict(self)
        return {name: fields[name] for name in ("ours", "theirs")} | {
            "ratio": self.ratio,
            "n": self.n,
            "unit": self.unit,
        }


def take_turns(functions: dict[str, Callable[[], float]], repeats: int, warm_up: bool = True) -> dict[str, list[float]]:
    """Call the functions in turns and collect their values over `repeats` rounds, after a warm-up round."""
    values: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(1 - warm_up, repeats + 1):
        for name, function in functions.items():
            value = function()
            if turn:
                values[name].append(value)
    return values


def compare_medians(
    values: dict[str, list[float]], names: dict[str, str], unit: str, ours: str = "ours"
) -> dict[str, Result]:
    """Compare the median of `ours` with those of others; names: {name of the result: name of the other function}."""
    medians = {name: statistics.median(turns) for name, turns in values.items()}
    return {name: Result(medians[ours], medians[other], len(values[other]), unit) for name, other in names.items()}


def rate(work: Callable[[], int]) -> float:
    """Photos per second of work(), which returns the number of photos it processed."""
    start = time.perf_counter()
    num_photos = work()
    return num_photos / (time.perf_counter() - start)


def table(results: dict[str, Result]) -> str:
    """The results as a Markdown table."""
    lines = ["| | ours | theirs | ratio | n | unit |", "|---|---|---|---|---|---|"]
    for name, result in results.items():
        digits = ".2f" if result.ours < 100 else ",.0f"
        lines.append(
            f"| {name.replace('_', ' ')} | {result.ours:{digits}} | {result.theirs:{digits}} | {result.ratio:.2f} "
            f"| {result.n} | {result.unit} |"
        )
    return "\n".join(lines)
