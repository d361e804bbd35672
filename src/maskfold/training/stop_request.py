"""Stop training after a signal or at a deadline, once a checkpoint is saved. Early stopping is in optim.py."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from maskfold.errors import TimeIsUp
from maskfold.machine_limits import STOP_SIGNALS

if TYPE_CHECKING:
    from accelerate import Accelerator

# The number that a process sends to the others after the deadline. The numbers of signals are smaller.
DEADLINE = 255


class StopRequest:
    """Record the first stop signal that arrives (see STOP_SIGNALS); a second one ends the process at once.

    deadline: time.time() at which training stops, or None. has_trained: whether the training of a part has begun under
    this request. The first part makes at least one update even after the deadline, so that there is progress even if
    the time limit is shorter than the start-up. Later parts (folds, refit), including those of the following repeats of
    --seeds, do not begin after the deadline.
    """

    def __init__(self, deadline: float | None = None):
        self.deadline = deadline
        self.signum: int | None = None
        self.has_trained = False
        self._handlers: dict[int, Any] = {}

    def __reduce__(self):
        # The copy in another process has the same deadline, but receives its own signals.
        return type(self), (self.deadline,)

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Handle signals within the block; the former handlers are restored after the first signal and at the end."""
        # An ignored signal must stay ignored: nohup makes a process ignore SIGHUP.
        signals = [signum for signum in STOP_SIGNALS if signal.getsignal(signum) != signal.SIG_IGN]
        self._handlers = {signum: signal.signal(signum, self._on_signal) for signum in signals}
        try:
            yield self
        finally:
            self._restore_handlers()

    def _on_signal(self, signum: int, _frame) -> None:
        self.signum = signum
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)

    @property
    def time_is_up(self) -> bool:
        return self.deadline is not None and time.time() >= self.deadline

    def is_requested(self, accelerator: Accelerator) -> bool:
        """Whether any process must stop. All processes get the same answer, so that none waits for a stopped one."""
        own_reason = self.signum or (DEADLINE if self.time_is_up else 0)
        if accelerator.num_processes == 1:
            return own_reason > 0
        import torch

        # Take the minimum over processes, so that a signal takes precedence over the deadline.
        flag = torch.tensor(float(own_reason or DEADLINE + 1), device=accelerator.device)
        reason = int(accelerator.gather(flag.view(1)).min())
        if reason < DEADLINE:
            self.signum = reason
        elif reason == DEADLINE:
            self.deadline = 0.0
        return reason <= DEADLINE

    def wait_and_raise(self, accelerator: Accelerator) -> None:
        """Wait until the main process has saved its checkpoint, then raise as raise_if_requested does."""
        accelerator.wait_for_everyone()
        self.raise_if_requested()

    def raise_if_requested(self) -> None:
        """Raise KeyboardInterrupt, SystemExit (128 + signal) or TimeIsUp if there is a reason to stop."""
        if self.signum == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signum:
            raise SystemExit(128 + int(self.signum))
        if self.time_is_up:
            raise TimeIsUp
