#!/usr/bin/env python
"""Run `maskfold pipeline` from a checkout."""

from maskfold.commands.pipeline import main
from maskfold.config.cli import run

if __name__ == "__main__":
    run(main)
