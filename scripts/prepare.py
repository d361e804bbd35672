#!/usr/bin/env python
"""Run `maskfold prepare` from a checkout."""

from maskfold.commands.prepare import main
from maskfold.config.cli import run

if __name__ == "__main__":
    run(main)
