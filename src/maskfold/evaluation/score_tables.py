"""Scores as tables and sentences for the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from maskfold.config.experiment import Config, selects_on_validation
from maskfold.fileio import read_json, sha256, write_atomic
from maskfold.inference.manifest import REMAKE_SUBMISSION, ExpectedOnly
from maskfold.json_record import check_record
from maskfold.labels import AXES
from maskfold.metrics.bootstrap import class_intervals
from maskfold.metrics.calibration import assess_calibration, cross_fit_temperatures, log_loss
from maskfold.metrics.score_text import METRIC_TITLES, ci_text
from maskfold.metrics.scores import class_table, scores
from maskfold.probabilities import OutOfFold


def wide_console() -> Console:
    """Return a console that does not wrap sentences and, in a pipe, prints tables up to 120 characters wide."""
    return Console(width=None if Console().is_terminal else 120, highlight=False, soft_wrap=True)


def terminal_table(title: str, *columns: str) -> Table:
    """Return a table without rows. The first column is left-aligned, the others are right-aligned."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left")
    return table


def print_summary(
    summary: dict,
    config: Config,
    console: Console | None = None,
    baseline: tuple[str, float] | None = None,
    gain: dict | None = None,
) -> None:
    """Print a run's out-of-fold scores by fold and overall, and the scores to expect on a new set.

    summary: content of summary.json. config: config of the run. baseline: (name, macro F1) of the best baseline. gain:
    the estimated gain from averaging the fold models, as load_gain returns it.
    """
    console = console or wide_console()
    columns = ("fold", *METRIC_TITLES.values(), "macro F1, 95 %", "images/s")
    table = terminal_table(f"{summary['name']}: out-of-fold", *columns)
    for row in summary["folds"]:
        bounds = ci_text(row["macro_f1_ci95"], 3)
        table.add_row(
            str(row["fold"]), *(f"{row[key]:.4f}" for key in METRIC_TITLES), bounds, f"{row['images_per_second']:,.0f}"
        )
    table.add_section()
    whole = summary["oof"]
    table.add_row("all", *(f"{whole[key]:.4f}" for key in METRIC_TITLES), ci_text(whole["macro_f1_ci95"], 3))
    for end, name in enumerate(("low", "high")):
        table.add_row(f"95 % {name}", *(f"{whole[f'{key}_ci95'][end]:.4f}" for key in METRIC_TITLES))
    console.print(table)
    axes = ", ".join(f"{axis} {whole[f'{axis}_f1']:.4f} {ci_text(whole[f'{axis}_f1_ci95'], 3)}" for axis in AXES)
    console.print(f"macro F1 by axis: {axes}")
    console.print(f"out-of-fold macro F1 {whole['macro_f1']:.4f}, 95 % interval {ci_text(whole['macro_f1_ci95'])}")
    console.print(expected_sentence(whole))
    console.print(gain_sentence(gain, len(summary["folds"])))
    if selects_on_validation(config):
        console.print(f"these scores are optimistically biased: {summary['selection']}")
    if baseline is not None and whole["macro_f1"] <= baseline[1]:
        console.print(f"this run does not beat the baseline '{baseline[0]}', macro F1 {baseline[1]:.4f}")
    if not summary["complete"]:
        console.print("not all folds are trained; the scores cover only the finished folds")


def submission_sentence(expected: dict) -> str:
    """Return a sentence on the expected score of a submission; expected: the key `expected` of its manifest."""
    submission = expected["submission"]
    if submission is None:
        return "expected leaderboard score of this submission: unknown, since the eval set has too few photos"
    (low, high), gain = submission["interval95"], submission["gain"]
    change = f"gains about {gain:.3f} over" if gain >= 0 else f"loses about {-gain:.3f} against"
    return (
        f"expected leaderboard score of this submission: macro F1 {submission['macro_f1']:.4f}, with 95 % probability "
        f"between {low:.2f} and {high:.2f} (the mean of the fold models {change} a single fold model)"
    )


def expected_sentence(expected: dict) -> str:
    """Return a sentence on the expected scores of a single fold model.

    expected: contains the 95 % intervals of the score on the eval set (board95) and on half of it (board_half95), each
    [low, high] or None.
    """
    text = "macro F1 to expect from a single fold model: "
    if expected["board95"] is None:
        return text + ci_text(None)
    return (
        f"{text}95 % interval {ci_text(expected['board95'])} on the eval set (board95), "
        f"{ci_text(expected['board_half95'])} on half of it (board_half95)"
    )


def gain_sentence(gain: dict | None, folds: int) -> str:
    """Return a sentence on the gain of the mean of the fold models over one model; gain: None if not estimated."""
    if gain is None:
        return (
            f"the mean of the {folds} fold models often scores higher than one of them; submit.py estimates the score "
            "of a submission"
        )
    return (
        f"averaging the fold models changes macro F1 by about {gain['gain']:+.4f} {ci_text(gain['ci95'])} compared "
        f"with one fold model (estimated from {', '.join(gain['from'])})"
    )


def print_classes(oof: OutOfFold, console: Console | None = None) -> None:
    """For each of the 18 classes, print the number of photos, precision, recall, and F1 with its 95 % interval."""
    console = console or wide_console()
    table = terminal_table("classes: out-of-fold", "class", "photos", "precision", "recall", "F1 [95 %]")
    bounds = class_intervals(oof.label, oof.pred_labels, oof.person_id)
    for row, f1_bounds in zip(class_table(oof.label, oof.pred_labels), bounds, strict=True):
        numbers = (f"{row['precision']:.3f}", f"{row['recall']:.3f}", f"{row['f1']:.3f} {ci_text(f1_bounds, 3)}")
        table.add_row(f"{row['label']:2d} {row['name']}", f"{row['support']:,}", *numbers)
    console.print(table)


def print_calibration(oof: OutOfFold, path: Path | None, console: Console | None = None) -> None:
    """Print the calibration before and after cross-fitted temperature scaling, and write the reliability diagram.

    path: path of the diagram; None for no diagram.
    """
    console = console or wide_console()
    from maskfold.pages.figures import reliability_diagram

    before, after, temperature = assess_calibration(oof)
    where = ""
    if path is not None:
        figure = reliability_diagram(before, after, temperature)
        write_atomic(path, lambda temporary: figure.savefig(temporary, dpi=110))
        where = f" ({path})"
    if after is None:
        console.print(
            f"calibration: error {before.error:.4f}, temperature {temperature:.3f}; cross-fitting needs a second fold"
            f"{where}"
        )
        return
    probs, temperatures = cross_fit_temperatures(oof)
    console.print(
        f"calibration: temperature {temperature:.3f} (by fold {min(temperatures.values()):.3f} to "
        f"{max(temperatures.values()):.3f}); cross-fitted, it changes the calibration error from {before.error:.4f} to "
        f"{after.error:.4f} and the log loss from {log_loss(oof.probs, oof.label):.4f} to "
        f"{log_loss(probs, oof.label):.4f}{where}"
    )


def print_submission_score(submission: Path, truth: Path) -> None:
    """Print a submission's score; if it has a manifest, also print whether the score is in the expected interval."""
    from maskfold.inference.submission_csv import load_true_and_submitted

    true_scores = scores(*load_true_and_submitted(submission, truth))
    print(f"{submission}: " + ", ".join(f"{title} {true_scores[key]:.4f}" for key, title in METRIC_TITLES.items()))
    path = submission.with_suffix(".json")
    if not path.exists():
        return
    manifest = read_json(path, REMAKE_SUBMISSION)
    if "expected" not in manifest or manifest.get("csv_sha256") != sha256(submission):
        print(f"{path} is the manifest of another file, so the score is not compared with an expected one")
        return
    expected = manifest["expected"]
    check_record(path, manifest, ExpectedOnly, REMAKE_SUBMISSION)
    bounds, source = expected["board95"], f"out-of-fold {expected['macro_f1']:.4f}, board95"
    if submission := expected.get("submission"):
        bounds, source = submission["interval95"], f"{submission['macro_f1']:.4f}, 95 % interval of the submission"
    if bounds:
        score = true_scores["macro_f1"]
        where = "below" if score < bounds[0] else "above" if score > bounds[1] else "inside"
        print(f"expected: {source} {ci_text(bounds)}; the score is {where} the interval")


def print_baselines(scores_by_name: dict[str, dict], console: Console | None = None) -> None:
    """Print the scores of baselines, with the interval of their macro F1."""
    console = console or wide_console()
    table = terminal_table("baselines: out-of-fold", "baseline", "macro F1 [95 %]", *list(METRIC_TITLES.values())[1:])
    for name, row in scores_by_name.items():
        rest = [f"{row[key]:.3f}" for key in list(METRIC_TITLES)[1:]]
        table.add_row(name, f"{row['macro_f1']:.3f} {ci_text(row['macro_f1_ci95'], 3)}", *rest)
    console.print(table)
