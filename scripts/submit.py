#!/usr/bin/env python
"""Run `maskfold submit` from a checkout."""

from maskfold.commands.submit import main
from maskfold.config.cli import run

if __name__ == "__main__":
    run(main)
