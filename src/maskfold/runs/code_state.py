"""The version of the code and of its main dependencies, recorded with a run or a submission."""

import hashlib
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from maskfold.config.choices import PACKAGE
from maskfold.fileio import sha256

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
    return {"git_commit": commit, "versions": package_versions(PACKAGES)}


def package_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """{name: version} of Python and of packages; None for a package that is not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            # maskfold itself may be used from its source folder without an installation.
            versions[name] = None
    return versions


def code_hash() -> str:
    """SHA-256 of the source code of this package: it changes with every change of the code, committed or not."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()
