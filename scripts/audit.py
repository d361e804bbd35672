#!/usr/bin/env python
"""Run `maskfold audit` from a checkout."""

from maskfold.commands.audit import main
from maskfold.config.cli import run

if __name__ == "__main__":
    run(main)
