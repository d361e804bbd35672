#!/usr/bin/env python
"""Run `maskfold export` from a checkout."""

from maskfold.commands.export import main
from maskfold.config.cli import run

if __name__ == "__main__":
    run(main)
