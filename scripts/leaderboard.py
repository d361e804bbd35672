#!/usr/bin/env python
"""Run `maskfold leaderboard` from a checkout."""

from maskfold.commands.leaderboard import main
from maskfold.config.cli import run

if __name__ == "__main__":
    run(main)
