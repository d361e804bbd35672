"""The state of the code that a run or a submission was made with."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("maskfold", "torch", "timm", "albumentations", "opencv-python", "numpy", "scikit-learn")


def code_state() -> dict:
    """git_commit (None outside a checkout; -dirty with uncommitted changes) and versions."""
    here = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    # An installed wheel may lie within a checkout of something else.
    is_tracked = git("ls-files", "--error-unmatch", Path(__file__).name) is not None
    commit = git("rev-parse", "HEAD") if is_tracked else None
    if commit and git("status", "--porcelain", "--untracked-files=no"):
        commit += "-dirty"
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            # Used from its source folder, as in a notebook without an installation.
            versions[name] = None
    return {"git_commit": commit, "versions": versions}
