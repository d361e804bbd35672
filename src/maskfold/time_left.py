"""Estimate the time that a run still needs, from the speed of its first updates; format and parse durations."""

import re
import sys
import time
from collections.abc import Mapping

from maskfold.errors import UserError

UPDATES_TO_MEASURE = 20
SECONDS_BY_UNIT = {"d": 86400, "h": 3600, "m": 60, "min": 60, "s": 1}
# Predicting a photo needs only the forward pass, which takes about a third of the time of training on the photo.
COST_OF_PREDICTING = 1 / 3


class TimeLeft:
    """Prints an estimate of the remaining time, once per process.

    updates: {part (fold or refit): number of its optimiser updates from start to end}. parts_at_once: number of parts
    that are trained at once; all are assumed to be as fast as this one. The first update is not measured, because it
    waits for the first batch and for one-time preparations.
    """

    def __init__(self, updates: Mapping[str, int], parts_at_once: int = 1):
        self.updates, self.parts_at_once = dict(updates), parts_at_once
        self._measured, self._start = -1, 0.0

    def after_update(self, part: str, num_updates: int, val_ratio: float, shown: bool = True) -> None:
        """Count an update; after enough of them, print the estimate. Call this after each update.

        num_updates: updates of the part so far, including those before it was resumed. val_ratio: number of validation
        photos per training photo. shown: False in processes that must not print.
        """
        self._measured += 1
        if self._measured == 0:
            self._start = time.perf_counter()
        if self._measured != UPDATES_TO_MEASURE:
            return
        seconds_per_update = (time.perf_counter() - self._start) / UPDATES_TO_MEASURE
        seconds_per_update *= 1 + COST_OF_PREDICTING * val_ratio
        names = list(self.updates)
        # The parts that `updates` lists before this one are finished.
        later_updates = sum(self.updates[name] for name in names[names.index(part) + 1 :])
        seconds = seconds_per_update * (self.updates[part] - num_updates + later_updates / self.parts_at_once)
        if shown:
            parts = "" if len(names) == 1 else f" ({len(names)} parts)"
            duration = format_duration(seconds)
            print(f"about {duration} left for the whole run{parts}, at the speed of {part}", file=sys.stderr)


def format_duration(seconds: float) -> str:
    """A duration as text: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    seconds = round(seconds)
    if seconds < 90:
        return f"{seconds} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if not hours:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def parse_duration(text: str, flag: str) -> float:
    """Parse a duration such as `8h`, `90m`, `1h30m`, `1.5h`, `2d` or `45s`; return seconds.

    Raises UserError, with `flag` in its message, if `text` is not a duration above 0.
    """
    compact = text.strip().lower().replace(" ", "")
    parts = re.findall(r"(\d+(?:\.\d+)?)(d|h|min|m|s)", compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise UserError(f"{flag} {text!r} is not valid; use a duration such as 8h, 90m or 1h30m (units d, h, m, s)")
    seconds = sum(float(number) * SECONDS_BY_UNIT[unit] for number, unit in parts)
    if not seconds:
        raise UserError(f"{flag} {text!r} is not valid; use a duration above 0, such as 8h")
    return seconds
