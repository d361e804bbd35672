"""Bar chart of the ratios of maskfold to the other pipelines."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def draw(results: dict[str, dict], path: Path, machine: str) -> None:
    """Plot the results in images/s; a ratio of 1 means equal speed. Without such results, nothing is written."""
    rates = {name: result for name, result in results.items() if result["unit"] == "images/s"}
    if not rates:
        return
    names = list(rates)[::-1]
    ratios = [rates[name]["ratio"] for name in names]
    figure, axes = plt.subplots(figsize=(10, 0.5 * len(names) + 1.4), layout="constrained")
    bars = axes.barh([name.replace("_", " ") for name in names], ratios, color="#35618f", height=0.65)
    texts = [
        f" {rates[name]['ratio']:.2f}x   ({rates[name]['ours']:,.0f} / {rates[name]['theirs']:,.0f})" for name in names
    ]
    axes.bar_label(bars, texts, fontsize=9)
    axes.axvline(1, color="#b5541c", linewidth=1.5, linestyle="--")
    axes.set_xscale("log")
    axes.set_xlim(0.5, max(ratios) * 4)
    axes.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    axes.set_xlabel("images/s of maskfold / images/s of the other (dashed: equal)")
    axes.set_title(f"Speed of maskfold compared with other pipelines ({machine})", fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
