#!/usr/bin/env python
"""Run `maskfold predict` from a checkout."""

from maskfold.commands.predict import main
from maskfold.config.cli import run

if __name__ == "__main__":
    run(main)
