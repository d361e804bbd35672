"""The figure for the README: ours over theirs, a bar a comparison."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def draw(results: dict[str, dict], path: Path, machine: str) -> None:
    """Rates alone: more is better for all of them, and 1 is as fast."""
    rates = {name: result for name, result in results.items() if result["unit"] == "images/s"}
    names = list(rates)[::-1]
    ratios = [rates[name]["ratio"] for name in names]
    figure, axes = plt.subplots(figsize=(10, 0.5 * len(names) + 1.4), layout="constrained")
    bars = axes.barh([name.replace("_", " ") for name in names], ratios, color="#35618f", height=0.65)
    said = [
        f" {rates[name]['ratio']:.2f}x   ({rates[name]['ours']:,.0f} / {rates[name]['theirs']:,.0f})" for name in names
    ]
    axes.bar_label(bars, said, fontsize=9)
    axes.axvline(1, color="#b5541c", linewidth=1.5, linestyle="--")
    axes.set_xscale("log")
    axes.set_xlim(0.5, max(ratios) * 4)
    axes.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    axes.set_xlabel("images/s, ours / theirs (dashed: as fast)")
    axes.set_title(f"maskfold beside the usual ways ({machine})", fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
