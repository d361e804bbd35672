#!/usr/bin/env python
"""Run `maskfold train` from a checkout."""

from maskfold.commands.train import main
from maskfold.config.cli import run

if __name__ == "__main__":
    run(main)
