"""Turns, medians and the table."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Result:
    """Medians of `n` turns. ratio = ours / theirs: the more the better for a rate, the less for seconds or MB."""

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


def take_turns(ways: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Each way's values over `repeats` rounds, after a round that does not count."""
    values: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            value = way()
            if turn:
                values[name].append(value)
    return values


def against(values: dict[str, list[float]], names: dict[str, str], unit: str, ours: str = "ours") -> dict[str, Result]:
    """A result a peer: `names` are result name -> way."""
    middle = {name: statistics.median(found) for name, found in values.items()}
    return {name: Result(middle[ours], middle[way], len(values[way]), unit) for name, way in names.items()}


def rate(work: Callable[[], int]) -> float:
    """Photos a second of work() that returns how many it did."""
    start = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - start)


def table(found: dict[str, Result]) -> str:
    """Markdown, as the README shows it."""
    lines = ["| | ours | theirs | ratio | n | unit |", "|---|---|---|---|---|---|"]
    for name, result in found.items():
        digits = ".2f" if result.ours < 100 else ",.0f"
        lines.append(
            f"| {name.replace('_', ' ')} | {result.ours:{digits}} | {result.theirs:{digits}} | {result.ratio:.2f} "
            f"| {result.n} | {result.unit} |"
        )
    return "\n".join(lines)
