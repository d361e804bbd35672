#!/usr/bin/env python
"""Run `maskfold evaluate` from a checkout."""

from maskfold.commands.evaluate import main
from maskfold.config.cli import run

if __name__ == "__main__":
    run(main)
