"""SIGINT and SIGTERM while training: the update under way is finished and saved, then the program ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator


class Stop:
    """Remembers the first signal; a second one of the same kind ends at once."""

    def __init__(self):
        self.signum: int | None = None
        self._before: dict[int, object] = {}

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        self._before = {signum: signal.signal(signum, self._hear) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for signum, handler in self._before.items():
                signal.signal(signum, handler)

    def _hear(self, signum: int, _frame) -> None:
        self.signum = signum
        signal.signal(signum, self._before[signum])

    def asked(self, accelerator: Accelerator) -> bool:
        """Whether any process has been told to stop: all leave after the same update, or some would wait for ever."""
        if accelerator.num_processes == 1:
            return self.signum is not None
        flag = torch.tensor(float(self.signum or 0), device=accelerator.device)
        told = int(accelerator.gather(flag.view(1)).max())
        self.signum = told or self.signum
        return bool(told)

    def end(self, accelerator: Accelerator) -> None:
        """Raises what the signal stands for, once what the first process saves is on disk."""
        accelerator.wait_for_everyone()
        if self.signum == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + int(self.signum))
