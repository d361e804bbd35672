"""Print the submissions on record as a table, and which of them to select for the private leaderboard."""

from pathlib import Path

import numpy as np
from rich.markup import escape

from maskfold.evaluation.final_submissions import comparable_submissions, submissions_on_record
from maskfold.evaluation.score_tables import terminal_table, wide_console
from maskfold.inference.submission_index import INDEX_FILE
from maskfold.metrics.final_choice import MAX_EXHAUSTIVE, FinalChoice, choose_final
from maskfold.metrics.score_text import ci_text

# A terminal shows no longer table at a glance, and formatting a thousand rows takes seconds.
MAX_PRINTED = 300


def print_submissions(folder: Path) -> None:
    """Print the submissions of a folder, the best expected score first."""
    rows = submissions_on_record(folder)
    table = terminal_table(
        "submissions on record", "submission", "created", "members", "TTA views", "expected [95 %]", "leaderboard"
    )
    for column in table.columns[1:4]:
        column.justify = "left"
    for row in rows.head(MAX_PRINTED).itertuples():
        expected, bounds = _cell(row.expected_submission), (row.submission_low, row.submission_high)
        if not np.isnan(bounds).any():
            expected += f" {ci_text(bounds, 3)}"
        # Leave out the seconds and the time zone of a time such as 2026-11-27T21:38:52+00:00.
        created = row.created[:16].replace("T", " ")
        words = map(escape, (row.name, created, row.members, row.tta))
        table.add_row(*words, expected, _cell(row.board_score))
    wide_console().print(table)
    if len(rows) > MAX_PRINTED:
        print(f"note: {len(rows) - MAX_PRINTED} more submissions are in {folder / INDEX_FILE}")
    if rows.expected_submission.isna().any():
        print(
            "note: some submissions have no expected score (an older version made them, or the eval set has too few "
            "photos); make them again with submit.py"
        )


def print_final_choice(folder: Path, count: int) -> None:
    """Print each submission's expected score on the private leaderboard, and the `count` submissions to select."""
    submissions = comparable_submissions(folder)
    rows = submissions.table
    choice = choose_final(submissions.known_scores, submissions.labels, count)
    table = terminal_table(
        "expected scores on the private leaderboard",
        *("submission", "expected", "public leaderboard", "expected private [95 %]", "best of all", "selected"),
    )
    for index in np.argsort(-choice.expected, kind="stable"):
        table.add_row(
            escape(rows["name"][index]),
            _cell(rows.expected_submission[index]),
            _cell(rows.board_score[index]),
            f"{choice.expected[index]:.4f} {ci_text(choice.interval95[index], 3)}",
            _percent(choice.best_probs[index]),
            "yes" if index in choice.selected else "",
        )
    wide_console().print(table)
    for message in submissions.messages:
        print(message)
    if count > len(rows):
        print(f"note: --final {count}: only {len(rows)} can be compared, so all are selected")
    elif count > MAX_EXHAUSTIVE:
        print(
            f"note: --final {count}: the first two are the best pair; each further submission is the one that adds "
            "most to those before it"
        )
    print(final_sentence(rows["name"].tolist(), choice))


def final_sentence(names: list[str], choice: FinalChoice) -> str:
    """Return a sentence on the submissions to select. names: the names of all submissions that were compared."""
    selected = [names[index] for index in choice.selected]
    chances = [_percent(choice.best_probs[index]) for index in choice.selected]
    score = f"expected to score {choice.expected_best:.4f}"
    if len(names) == 1:
        return f"select {names[0]}.csv, the only one that can be compared: it is {score}"
    best = f"the best of all {len(names)} with probability {chances[0]}"
    if len(selected) == 1:
        return f"select {selected[0]}.csv: it is {score}, and it is {best}"
    files = ", ".join(f"{name}.csv" for name in selected[:-1])
    group = "the better of the two" if len(selected) == 2 else "the best of them"
    others = ", ".join(f"{name} with {chance}" for name, chance in zip(selected[1:], chances[1:], strict=True))
    return f"select {files} and {selected[-1]}.csv: {group} is {score}; {selected[0]} is {best}, {others}"


def _cell(score: float) -> str:
    return "" if np.isnan(score) else f"{score:.4f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
