#!/usr/bin/env python
"""Run `maskfold clean` from a checkout."""

from maskfold.commands.clean import main
from maskfold.config.cli import run

if __name__ == "__main__":
    run(main)
