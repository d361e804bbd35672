"""Print a table of the disk space that runs and prepared folders use."""

from collections.abc import Sequence
from pathlib import Path

from maskfold.evaluation.score_tables import terminal_table, wide_console
from maskfold.runs.disk_kinds import KINDS
from maskfold.runs.disk_usage import FolderUsage


def size_text(size: int) -> str:
    """A number of bytes as text: 1.2 GB, 340.0 MB, 0.1 MB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def print_disk_usage(folders: Sequence[FolderUsage]) -> None:
    """Print the size of each folder by kind of file and in total; kinds without any file are left out."""
    kinds = [kind for kind in KINDS if any(usage.size_of(kind) for usage in folders)]
    here = Path.cwd()
    table = terminal_table("disk space", "folder", *kinds, "other", "total")
    for usage in folders:
        sizes = [usage.size_of(kind) for kind in kinds]
        folder = usage.folder.relative_to(here) if usage.folder.is_relative_to(here) else usage.folder
        table.add_row(str(folder), *_cells([*sizes, usage.size - sum(sizes), usage.size]))
    table.add_section()
    sums = [sum(usage.size_of(kind) for usage in folders) for kind in kinds]
    total = sum(usage.size for usage in folders)
    table.add_row("all", *_cells([*sums, total - sum(sums), total]))
    wide_console().print(table)


def _cells(sizes: Sequence[int]) -> list[str]:
    return [size_text(size) if size else "" for size in sizes]
