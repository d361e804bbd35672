#!/usr/bin/env python
"""Run `maskfold report` from a checkout."""

from maskfold.commands.report import main
from maskfold.config.cli import run

if __name__ == "__main__":
    run(main)
