"""Train several parts of a run at the same time, each in a process with its share of the cores and GPUs."""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from maskfold.errors import UserError
from maskfold.machine_limits import process_start_error, stop_signals_blocked
from maskfold.models.device import threads_per_process
from maskfold.time_left import TimeLeft
from maskfold.training.child_process import Slot, run_child
from maskfold.training.fold_job import FoldJob, Part, TrainContext


@dataclass(eq=False)
class _Child:
    """A child process that trains a part. errors: where it sends its UserError, if it raises one."""

    part: Part
    slot_number: int
    process: BaseProcess
    errors: Connection
    error: UserError | None = None

    def receive_error(self) -> None:
        """Read the error if the child has sent one. Called while it runs: a full pipe would make it wait forever."""
        if not self.errors.closed and self.errors.poll():
            # At the end of a child without an error there is nothing to read.
            with contextlib.suppress(EOFError):
                self.error = self.errors.recv()
            self.errors.close()


def fit_parallel(context: TrainContext, parts: Sequence[Part], updates: Mapping[str, int], slots: int) -> None:
    """Train each part in a process of its own, up to `slots` at the same time.

    A signal is passed on to the children; each saves and ends. updates: part -> its number of optimiser updates, for
    the estimate of the time left. Raises UserError where a child raised one or was killed, after the others have saved.
    """
    stop, run = context.stop, context.run
    spawn, waiting, free_slots = multiprocessing.get_context("spawn"), list(parts), list(range(slots))
    running: list[_Child] = []
    failed: list[_Child] = []
    is_stopping = False
    threads, method = threads_per_process(slots), multiprocessing.get_start_method()
    try:
        # The children check the deadline themselves. The first part starts even if it has passed, for one update.
        while running or (waiting and not is_stopping and not (stop.time_is_up and len(waiting) < len(parts))):
            while waiting and free_slots and not is_stopping and not (stop.time_is_up and len(waiting) < len(parts)):
                part, number = waiting.pop(0), free_slots.pop(0)
                time_left = TimeLeft({other.name: updates[other.name] for other in (part, *waiting)}, slots)
                job, slot = FoldJob(context, part, time_left), Slot(number, slots, threads, method)
                receiver, sender = spawn.Pipe(duplex=False)
                process: BaseProcess = spawn.Process(target=run_child, args=(job, slot, sender), name=part.name)
                # Ctrl-C reaches the whole process group, children that still import too; the parent passes it on once.
                with stop_signals_blocked():
                    process.start()
                # The child has its own copy: when it ends, there is nothing more to read.
                sender.close()
                running.append(_Child(part, number, process, receiver))
            wait([child.process.sentinel for child in running], timeout=0.2)
            ended = [child for child in running if child.process.exitcode is not None]
            for child in running:
                child.receive_error()
            running = [child for child in running if child not in ended]
            free_slots += [child.slot_number for child in ended]
            failed += [child for child in ended if child.process.exitcode]
            if (stop.signum or failed) and not is_stopping:
                is_stopping = True
                for child in running:
                    _send_signal(child.process, stop.signum or signal.SIGTERM)
    except OSError as error:
        raise process_start_error(
            error, "a training process", "train fewer folds at once (--parallel-folds)"
        ) from error
    finally:
        for child in running:
            child.process.kill()
    if failed and not stop.signum:
        raise _child_error(failed[0])
    if not all(run.finished(part.name) for part in parts):
        stop.raise_if_requested()


def _send_signal(process: BaseProcess, signum: int) -> None:
    # The process may have just ended.
    with contextlib.suppress(ProcessLookupError):
        if process.pid is not None:
            os.kill(process.pid, signum)


def _child_error(child: _Child) -> BaseException:
    """The exception to raise for a child with a nonzero exit status: its own UserError if it sent one."""
    if child.error is not None:
        return child.error
    name, status = child.part.name, child.process.exitcode or 0
    if status < 0:
        return UserError(
            f"--parallel-folds: {name} was killed by signal {-status}, most likely because memory ran out; rerun the "
            "command with fewer folds at once to resume"
        )
    print(f"{name} ended with status {status}; its own message is above", file=sys.stderr)
    return SystemExit(1)
