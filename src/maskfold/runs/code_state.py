"""The version of the code and of its main dependencies, recorded with a run or a submission."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("maskfold", "torch", "timm", "albumentations", "opencv-python", "numpy", "scikit-learn")


def code_state() -> dict:
    """Return {git_commit, versions}.

    git_commit: None outside a git checkout; ends in -dirty if tracked files were changed. versions: {package: version},
    with None for a package that is not installed.
    """
    folder = Path(__file__).parent

    def git(*args: str) -> str | None:
        try:
            return subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    # An installed wheel may be inside the checkout of another project, whose commit must not be recorded.
    is_tracked = git("ls-files", "--error-unmatch", Path(__file__).name) is not None
    commit = git("rev-parse", "HEAD") if is_tracked else None
    if commit and git("status", "--porcelain", "--untracked-files=no"):
        commit += "-dirty"
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            # maskfold itself may be used from its source folder without an installation.
            versions[name] = None
    return {"git_commit": commit, "versions": versions}
