"""The console command of an installed wheel: `maskfold NAME ...` is the same as `python scripts/NAME.py ...`."""

import importlib
import sys
from typing import NoReturn

from maskfold.config.cli import run
from maskfold.errors import UserError, did_you_mean

# The subcommands, {name: what it does}, in the order in which a new user needs them.
VERBS = {
    "make-demo-data": "render a small synthetic dataset",
    "pipeline": "prepare, train, evaluate, submit and report with one command",
    "prepare": "check the raw data, list its photos and make the folds",
    "baselines": "score simple baselines, which a model has to beat",
    "find-lr": "find a learning rate with a range test",
    "train": "train the folds of an experiment",
    "evaluate": "score and compare runs, or score a submission",
    "report": "write a run's report as one HTML page",
    "audit": "find wrong labels and duplicate people",
    "submit": "blend runs into a submission",
    "predict": "predict any photos with finished runs",
    "export": "write a run as an ONNX model and as timm models, for other programs",
    "leaderboard": "list the submissions on record, and choose the final ones",
    "clean": "list the disk space of runs and data, and delete files",
}


def main() -> None:
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print("usage: maskfold COMMAND [flags]; maskfold COMMAND --help lists the flags of a command\n")
        print("\n".join(f"  {verb:16}{text}" for verb, text in VERBS.items()))
        return
    verb = words[0].replace("_", "-")
    if verb not in VERBS:
        hint = did_you_mean(verb, VERBS) or "; see maskfold --help"
        raise UserError(f"maskfold: there is no command {words[0]}{hint}")
    # Usage lines and messages that quote the command print sys.argv[0], so it must contain the subcommand.
    sys.argv = [f"{sys.argv[0]} {verb}", *words[1:]]
    importlib.import_module(f"maskfold.commands.{verb.replace('-', '_')}").main()


def console() -> NoReturn:
    """Entry point of the console command."""
    run(main)
