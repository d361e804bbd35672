"""When training stops before its end: by a signal or a time limit, after the update under way, which is saved."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator

from maskfold.errors import TimeIsUp
from maskfold.machine_limits import STOP_SIGNALS

# What processes exchange when the time is up; every signal has a smaller number.
DEADLINE = 255


class Stop:
    """Remembers the first signal; a second one ends the process at once.

    deadline: time.time() from which on training stops by itself, or None.
    """

    def __init__(self, deadline: float | None = None):
        self.deadline = deadline
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        # nohup has SIGHUP ignored, and it stays so.
        signals = [signum for signum in STOP_SIGNALS if signal.getsignal(signum) != signal.SIG_IGN]
        self._before = {signum: signal.signal(signum, self._hear) for signum in signals}
        try:
            yield self
        finally:
            self._restore()

    def _hear(self, signum: int, _frame) -> None:
        self.signum = signum
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    @property
    def time_is_up(self) -> bool:
        return self.deadline is not None and time.time() >= self.deadline

    def asked(self, accelerator: Accelerator) -> bool:
        """Whether any process is to stop: all leave after the same update, or some would wait for ever."""
        mine = self.signum or (DEADLINE if self.time_is_up else 0)
        if accelerator.num_processes == 1:
            return mine > 0
        # A signal counts more than the time, so of several the smallest.
        flag = torch.tensor(float(mine or DEADLINE + 1), device=accelerator.device)
        first = int(accelerator.gather(flag.view(1)).min())
        if first < DEADLINE:
            self.signum = first
        elif first == DEADLINE:
            self.deadline = 0.0
        return first <= DEADLINE

    def end(self, accelerator: Accelerator) -> None:
        """Raises what the signal stands for, or TimeIsUp, once what the first process saves is on disk."""
        accelerator.wait_for_everyone()
        self.raise_reason()

    def raise_reason(self) -> None:
        """Raises KeyboardInterrupt, SystemExit or TimeIsUp where there is a reason to stop."""
        if self.signum == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signum:
            raise SystemExit(128 + int(self.signum))
        if self.time_is_up:
            raise TimeIsUp
