"""How long a run will still take, estimated once from the speed of its first updates; and durations in words."""

import re
import sys
import time
from collections.abc import Mapping

from maskfold.errors import UserError

UPDATES_TO_MEASURE = 20
SECONDS = {"d": 86400, "h": 3600, "m": 60, "min": 60, "s": 1}
# Predicting a photo costs a forward pass, about a third of a training step.
COST_OF_PREDICTING = 1 / 3


class TimeLeft:
    """Prints how long all `updates` (part -> optimiser updates it takes from its start) need, once per process.

    The first update is left out of the measurement: it waits for the first batch and for one-time preparations.
    parts_at_once: processes that share the parts, each as fast as this one.
    """

    def __init__(self, updates: Mapping[str, int], parts_at_once: int = 1):
        self.updates, self.parts_at_once = dict(updates), parts_at_once
        self._measured, self._start = -1, 0.0

    def after_update(self, part: str, done: int, valid_share: float, shown: bool = True) -> None:
        """To be called after each update; done: updates of the part so far, earlier starts included.

        valid_share: validation photos per training photo.
        """
        self._measured += 1
        if self._measured == 0:
            self._start = time.perf_counter()
        if self._measured != UPDATES_TO_MEASURE:
            return
        each = (time.perf_counter() - self._start) / UPDATES_TO_MEASURE * (1 + COST_OF_PREDICTING * valid_share)
        names = list(self.updates)
        # The parts before it are finished, or under way beside it.
        later = sum(self.updates[name] for name in names[names.index(part) + 1 :])
        left = each * (self.updates[part] - done + later / self.parts_at_once)
        if shown:
            parts = "" if len(names) == 1 else f" ({len(names)} parts)"
            print(
                f"about {format_duration(left)} left for the whole run{parts}, at the speed of {part}", file=sys.stderr
            )


def format_duration(seconds: float) -> str:
    """Such as `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
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
    """Seconds of `8h`, `90m`, `1h30m`, `2d`, `45s` (fractions allowed). Raises UserError naming `flag`."""
    compact = text.strip().lower().replace(" ", "")
    parts = re.findall(r"(\d+(?:\.\d+)?)(d|h|min|m|s)", compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise UserError(f"{flag} {text!r}: a duration such as 8h, 90m or 1h30m is expected (units d, h, m, s)")
    seconds = sum(float(number) * SECONDS[unit] for number, unit in parts)
    if not seconds:
        raise UserError(f"{flag} {text!r}: more than no time is expected")
    return seconds
