#!/usr/bin/env python
"""Run `maskfold baselines` from a checkout."""

from maskfold.commands.baselines import main
from maskfold.config.cli import run

if __name__ == "__main__":
    run(main)
