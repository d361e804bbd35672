"""Seconds of --help of each script, compared with importing the libraries that the scripts use."""

import subprocess
import sys
import time
from pathlib import Path

from measure import Result, compare_medians, take_turns

SCRIPTS = Path(__file__).parent.parent / "scripts"
BARE = ["-c", "import torch, timm, albumentations, pandas, sklearn"]


def measure(data: Path, scratch: Path, backbone: str, repeats: int) -> dict[str, Result]:
    def seconds(*words: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        return time.perf_counter() - start

    scripts = sorted(path for path in SCRIPTS.glob("*.py"))
    functions = {path.stem: lambda path=path: seconds(str(path), "--help") for path in scripts}
    values = take_turns(functions | {"bare": lambda: seconds(*BARE)}, repeats)
    results = {}
    for path in scripts:
        results |= compare_medians(values, {f"help_of_{path.stem}_vs_imports": "bare"}, "s", ours=path.stem)
    return results
