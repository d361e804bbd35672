"""The submissions on record, and which of them to select, with scripts/leaderboard.py."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import refused
from support import line_with

from maskfold.evaluation.final_submissions import comparable_submissions
from maskfold.evaluation.submission_tables import MAX_PRINTED
from maskfold.fileio import sha256
from maskfold.inference.submission_index import INDEX_COLUMNS, SUBMISSION_COLUMNS

NUM_PHOTOS = 140


class SubmissionsFolder:
    """A hand-made folder of submissions and their index."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict] = []
        path.mkdir()

    def add(self, name: str, expected: float, changed: float = 0, ids: str = "photo", **more: object) -> None:
        """Add a submission that predicts 1 on the last photos, a share `changed` of them, and 0 on the others.

        ids: start of its ImageIDs. more: other values of its row in the index.
        """
        labels = np.arange(NUM_PHOTOS) >= round((1 - changed) * NUM_PHOTOS)
        table = pd.DataFrame({"ImageID": [f"{ids}{n}.jpg" for n in range(NUM_PHOTOS)], "ans": labels.astype(int)})
        table.to_csv(self.path / f"{name}.csv", index=False)
        scores = [expected + offset for offset in (0, -0.06, 0.06, -0.08, 0.08)]
        created = f"2026-11-{len(self.rows) + 10}T21:38:52+00:00"
        row = {"name": name, "created": created, "members": "demo other", "tta": "none hflip"}
        row |= {"expected_macro_f1": expected - 0.05, "csv_sha256": sha256(self.path / f"{name}.csv")}
        self.rows.append(row | dict(zip(SUBMISSION_COLUMNS, scores, strict=True)) | more)
        self.write_index()

    def write_index(self) -> None:
        pd.DataFrame(self.rows, columns=INDEX_COLUMNS).to_csv(self.path / "index.csv", index=False)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> SubmissionsFolder:
    """submissions/ in the working directory, without submissions."""
    monkeypatch.chdir(tmp_path)
    return SubmissionsFolder(Path("submissions"))


def rows_of(text: str) -> list[list[str]]:
    """The cells of the rows of a printed table."""
    lines = [line for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_the_table_lists_the_best_expected_score_first(script, folder):
    folder.add("first", 0.4)
    folder.add("best", 0.5, board_score=0.4711)
    folder.add("old", 0.6, **dict.fromkeys(SUBMISSION_COLUMNS, np.nan))
    done = script("leaderboard")
    assert done.code == 0, done.err
    assert rows_of(done.out) == [
        ["best", "2026-11-11 21:38", "demo other", "none hflip", "0.5000 [0.440, 0.560]", "0.4711"],
        ["first", "2026-11-10 21:38", "demo other", "none hflip", "0.4000 [0.340, 0.460]", ""],
        ["old", "2026-11-12 21:38", "demo other", "none hflip", "", ""],
    ]
    assert "some submissions have no expected score" in done.out
    assert "select" not in done.out


def test_two_submissions_are_selected(script, folder):
    folder.add("a", 0.5)
    folder.add("twin", 0.501, changed=0.01)
    folder.add("other", 0.49, changed=0.6)
    done = script("leaderboard", "--final", 2)
    assert done.code == 0, done.err
    *rows, [] = [*rows_of(done.out), []]
    assert [(row[0], row[5]) for row in rows] == [("twin", "yes"), ("a", ""), ("other", "yes")]
    chances = [row[4] for row in rows]
    assert sum(int(chance.removesuffix(" %")) for chance in chances) == pytest.approx(100, abs=1)
    assert re.fullmatch(
        r"select twin\.csv and other\.csv: the better of the two is expected to score 0\.5[012]\d\d; "
        rf"twin is the best of all 3 with probability {chances[0]}, other with {chances[2]}",
        done.out.splitlines()[-1],
    )
    assert "warning" not in done.out + done.err
    one = script("leaderboard", "--final", 1).out.splitlines()[-1]
    assert one.startswith("select twin.csv: it is expected to score 0.5010, and it is the best of all 3 with")


def test_a_public_score_moves_similar_submissions(script, folder):
    folder.add("a", 0.5, board_score=0.62)
    folder.add("twin", 0.5, changed=0.01)
    folder.add("other", 0.5, changed=0.6)
    done = script("leaderboard", "--final", 1)
    assert done.code == 0, done.err
    rows = {row[0]: row for row in rows_of(done.out)}
    private = {name: float(row[3].split()[0]) for name, row in rows.items()}
    assert private["a"] > private["twin"] > private["other"] == 0.5
    assert (rows["a"][2], rows["twin"][2], rows["a"][5]) == ("0.6200", "", "yes")


def test_the_order_of_the_index_does_not_matter(script, folder):
    for name, expected, changed in (("a", 0.5, 0), ("b", 0.5, 0.1), ("c", 0.495, 0.3), ("d", 0.497, 0.2)):
        folder.add(name, expected, changed)
    before = script("leaderboard", "--final", 2).out
    folder.rows = [folder.rows[index] for index in (2, 0, 3, 1)]
    folder.write_index()
    assert script("leaderboard", "--final", 2).out == before
    assert "select " in before


def test_more_than_two_are_selected_one_by_one(script, folder):
    for index in range(4):
        folder.add(f"s{index}", 0.5 - index / 1000, changed=index / 10)
    done = script("leaderboard", "--final", 3)
    assert done.code == 0, done.err
    assert "best pair" in line_with(done.out, "note", "--final 3")
    assert [row[5] for row in rows_of(done.out)].count("yes") == 3
    assert "the best of them is expected to score" in done.out.splitlines()[-1]
    all_selected = script("leaderboard", "--final", 5)
    assert "only 4 can be compared, so all are selected" in line_with(all_selected.out, "note", "--final 5")
    assert [row[5] for row in rows_of(all_selected.out)].count("yes") == 4


def test_submissions_that_cannot_be_compared_are_left_out(script, folder):
    folder.add("good", 0.5)
    folder.add("fine", 0.49, changed=0.3)
    folder.add("missing", 0.6)
    folder.add("edited", 0.6)
    folder.add("elsewhere", 0.6, ids="x")
    folder.add("broken", 0.6)
    folder.add("unreadable", 0.6)
    old = dict.fromkeys(SUBMISSION_COLUMNS, np.nan)
    folder.add("old1", 0.6, **old)
    folder.add("old2", 0.6, **old)
    folder.add("percent", 0.6, board_score=77.51)
    folder.add("swapped", 0.6, submission_low=0.7)
    (folder.path / "missing.csv").unlink()
    (folder.path / "edited.csv").write_text((folder.path / "edited.csv").read_text().replace(",0", ",2", 1))
    (folder.path / "broken.csv").write_text("ImageID,ans\na.jpg,99\n")
    folder.rows[5]["csv_sha256"] = sha256(folder.path / "broken.csv")
    # The disk fails.
    (folder.path / "unreadable.csv").unlink()
    (folder.path / "unreadable.csv").symlink_to("/proc/self/mem")
    folder.write_index()
    done = script("leaderboard", "--final", 2)
    assert done.code == 0, done.err
    assert [row[0] for row in rows_of(done.out)] == ["good", "fine"]
    warning = line_with(done.out, "warning: left out")
    for words in (
        "missing (its CSV is missing)",
        "edited (its CSV has changed",
        "elsewhere (its ImageIDs are not those of the other",
        "broken.csv line 2: ans '99' is not valid",
        "unreadable (its CSV ",
        "old1, old2 (without an expected score",
        "percent, swapped (a score in its row of index.csv is not valid)",
        "make it again with submit.py",
    ):
        assert words in warning, words
    assert "best of all 2" in done.out.splitlines()[-1]


def test_the_newest_submission_decides_between_two_eval_sets(script, folder):
    folder.add("before", 0.6, ids="x")
    folder.add("now", 0.5)
    assert comparable_submissions(folder.path).table["name"].tolist() == ["now"]
    folder.add("earlier", 0.4, ids="x", created="2026-11-01T21:38:52+00:00")
    assert comparable_submissions(folder.path).table["name"].tolist() == ["before"]


def test_one_submission_is_enough(script, folder):
    folder.add("only", 0.5)
    one = script("leaderboard", "--final", 1)
    assert (
        one.out.splitlines()[-1] == "select only.csv, the only one that can be compared: it is expected to score 0.5000"
    )
    assert "note" not in one.out
    two = script("leaderboard", "--final", 2)
    assert two.code == 0, two.err
    assert "only 1 can be compared" in line_with(two.out, "note")
    assert two.out.splitlines()[-1] == one.out.splitlines()[-1]


def test_of_identical_submissions_one_counts(script, folder):
    folder.add("first", 0.5)
    folder.add("recorded", 0.5, board_score=0.52)
    folder.add("newest", 0.51)
    folder.add("other", 0.4, changed=0.5)
    done = script("leaderboard", "--final", 2)
    assert done.code == 0, done.err
    assert "newest, first have the same labels as recorded, so only recorded counts" in line_with(done.out, "note")
    assert [row[0] for row in rows_of(done.out)] == ["recorded", "other"]
    folder.rows[1]["board_score"] = np.nan
    folder.write_index()
    assert "so only newest counts" in line_with(script("leaderboard", "--final", 2).out, "note")


def test_the_order_of_the_photos_does_not_matter(folder):
    folder.add("a", 0.5, changed=0.3)
    folder.add("b", 0.4, changed=0.3)
    path = folder.path / "b.csv"
    pd.read_csv(path)[::-1].to_csv(path, index=False)
    folder.rows[1]["csv_sha256"] = sha256(path)
    folder.write_index()
    comparable = comparable_submissions(folder.path)
    assert len(comparable.labels) == 1
    assert "same labels" in comparable.messages[0]


@pytest.mark.parametrize("args", [(), ("--final", 2)])
def test_no_submission_is_on_record(script, folder, args):
    refused(script("leaderboard", *args), "submissions/index.csv", "no submission is on record", "submit.py")
    refused(script("leaderboard", "--submissions", "subs", *args), "subs/index.csv", "--submissions")
    assert not Path("subs").exists()
    # An index without rows.
    folder.write_index()
    refused(script("leaderboard", *args), "submissions/index.csv", "no submission is on record")


def test_none_can_be_compared(script, folder):
    folder.add("old", 0.5, **dict.fromkeys(SUBMISSION_COLUMNS, np.nan))
    folder.add("gone", 0.5)
    (folder.path / "gone.csv").unlink()
    words = ("submissions/index.csv", "old (without an expected score", "gone (its CSV is missing)", "submit.py")
    refused(script("leaderboard", "--final", 1), *words)
    assert script("leaderboard").code == 0


@pytest.mark.parametrize("args", [(), ("--final", 2)])
def test_a_damaged_index_is_refused(script, folder, args):
    folder.add("a", 0.5)
    index = folder.path / "index.csv"
    index.write_text(index.read_text().replace("0.5,", "half,"))
    refused(script("leaderboard", *args), "submissions/index.csv line 2", "'half'", "is not a number")
    index.write_text("nonsense\n1\n")
    refused(script("leaderboard", *args), "submissions/index.csv", "missing")


@pytest.mark.parametrize(("value", "words"), [(0, ["at least 1"]), (-2, ["at least 1"]), ("two", ["two"])])
def test_an_invalid_number_of_submissions_is_refused(script, folder, value, words):
    folder.add("a", 0.5)
    refused(script("leaderboard", "--final", value), "--final", *words)


def test_names_are_printed_as_they_are(script, folder):
    """Square brackets are not read as colours; a name that no file can have is a missing CSV."""
    folder.add("a[red]b", 0.5, members="demo[/x]")
    folder.add("b", 0.4, changed=0.4)
    folder.rows.append(folder.rows[1] | {"name": "x" * 300})
    folder.write_index()
    for args in ((), ("--final", 2)):
        done = script("leaderboard", *args)
        assert done.code == 0, done.err
        assert "a[red]b" in done.out
        assert args or "demo[/x]" in done.out
    assert "xx (its CSV is missing)" in done.out


def test_submissions_of_real_runs_in_the_organisers_folder(script, run, other, monkeypatch):
    monkeypatch.setenv("SM_OUTPUT_DATA_DIR", "output")
    for members in ([run], [other], [run, other]):
        assert script("submit", *members).code == 0
    listed = script("leaderboard")
    assert listed.code == 0, listed.err
    assert {row[0] for row in rows_of(listed.out)} == {"tiny", "other", "tiny+other"}
    assert script("submit", "--record", "tiny", "0.1").code == 0
    done = script("leaderboard", "--final", 2)
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1].startswith("select ")


def test_a_long_index_is_cut_to_the_best(script, folder):
    for number in range(MAX_PRINTED + 3):
        folder.rows.append(
            dict.fromkeys(INDEX_COLUMNS, "") | {"name": f"s{number}", "expected_submission": number / 1000}
        )
    folder.write_index()
    done = script("leaderboard")
    assert "s302" in done.out
    assert "s2 " not in done.out
    assert f"3 more submissions are in {Path('submissions', 'index.csv')}" in done.out
