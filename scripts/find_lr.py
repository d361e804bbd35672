#!/usr/bin/env python
"""Run `maskfold find-lr` from a checkout."""

from maskfold.commands.find_lr import main
from maskfold.config.cli import run

if __name__ == "__main__":
    run(main)
