#!/usr/bin/env python
"""Run `maskfold make-demo-data` from a checkout."""

from maskfold.commands.make_demo_data import main
from maskfold.config.cli import run

if __name__ == "__main__":
    run(main)
