"""The GPU battery: its own logic on a CPU with tiny models, and what becomes of sections that fail."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from battery import packages, recipes
from battery.context import Context
from battery.results import Results, Row, SectionResult
from battery.schedule import SECTIONS, default_sections
from battery.section_runner import run_section
from battery.updates import OPTIONS
from conftest import ROOT

from maskfold.errors import UserError

GPU = ROOT / "benchmarks" / "gpu.py"
# Packages without which the battery runs.
ABSENT = ["cleanlab", "matplotlib", "simplejpeg", "wandb"]
MAX_CPU_SECONDS = 2 * 180


def run_gpu(folder, *words, **variables):
    command = [sys.executable, GPU, *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | variables)


@pytest.mark.slow
def test_the_battery_runs_on_a_cpu_without_the_optional_packages(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({ABSENT}))\n")
    search_path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    out, before = tmp_path / "gpu.json", resource.getrusage(resource.RUSAGE_CHILDREN)
    # More minutes than an idle machine needs; the processor time is limited below.
    done = run_gpu(tmp_path, "--device", "cpu", "--tiny", "--minutes", 60, "--out", out, PYTHONPATH=search_path)
    assert done.returncode == 0, done.stderr + done.stdout
    content, text = json.loads(out.read_text()), out.with_suffix(".md").read_text()
    assert sorted(content["missing"]) == ABSENT
    sections = content["sections"]
    assert list(sections) == default_sections(tiny=True)
    assert {section["status"] for section in sections.values()} == {"done"}
    rows = {name: section["rows"] for name, section in sections.items()}
    for name in ("updates", "options", "predictions", "resume", "fold-memory"):
        assert all(row["meets_target"] is not False for row in rows[name]), rows[name]
    # Both devices are this CPU: fp32 is equal bit for bit, bf16 is not.
    errors = {row["what"]: row["value"] for row in rows["updates"]}
    assert {("fp32" in what): value == 0 for what, value in errors.items()} == {True: True, False: False}
    assert len(rows["options"]) == len(OPTIONS)
    assert rows["options"][0]["value"] == 0
    assert [row["value"] for row in rows["resume"]] == [0, 0]
    assert all(row["value"] > 0 for name in ("training", "prediction", "loader") for row in rows[name])
    assert all(row["what"] in text for section in rows.values() for row in section)
    assert "Self CPU" in text
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MAX_CPU_SECONDS


def finishes(context, record):
    record.row("speed", 2.0, "images/s", at_least=1.0)
    record.text("Profile", "a table")


def raises(context, record):
    record.row("speed", 0.5, "images/s", at_least=1.0)
    print("a line of the log", flush=True)
    raise UserError("a.csv: broken; fix it")


def hangs(context, record):
    record.row("speed", 1.0, "images/s")
    child = os.fork()
    (context.scratch / ("child" if child == 0 else "parent")).write_text(str(os.getpid()))
    time.sleep(600)


def is_running(pid):
    """Whether a process exists and is not a zombie, which nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_killed(context, record):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_sections_that_fail_are_recorded_with_their_values(tmp_path):
    context = Context("cpu", True, tmp_path)
    results = Results(tmp_path / "gpu.json", {"device": "a CPU"}, {"wandb": "not used"})
    outcomes = []
    for section, budget in ((finishes, 60), (raises, 60), (hangs, 5), (is_killed, 60)):
        result = SectionResult(section.__name__, budget)
        results.sections.append(result)
        run_section(section, context, result, results.write, "fork")
        outcomes.append(json.loads(results.path.read_text())["sections"][section.__name__])
    assert [outcome["status"] for outcome in outcomes] == ["done", "failed", "out of time", "failed"]
    assert [[row["meets_target"] for row in outcome["rows"]] for outcome in outcomes] == [[True], [False], [None], []]
    assert outcomes[1]["error"].startswith("UserError: a.csv: broken; fix it\n")
    assert "a line of the log" in outcomes[1]["error"]
    assert "-9" in outcomes[3]["error"]
    # All processes of a section end with it.
    assert not any(is_running(int((tmp_path / name).read_text())) for name in ("child", "parent"))
    text = results.path.with_suffix(".md").read_text()
    assert "| raises | speed | 0.5 images/s | >= 1 | **no** | 1 |  |" in text
    assert "| raises | failed: UserError: a.csv: broken; fix it |" in text
    assert "## Profile\n\n```\na table\n```" in text
    assert "Not installed: wandb (not used)." in text


def test_a_recipe_that_does_not_fit_is_a_row_and_the_others_are_measured(tmp_path, monkeypatch):
    errors = iter(
        [UserError("optim.accum_steps: too little memory\nmore"), torch.OutOfMemoryError("CUDA out of memory")]
    )

    def fail(*_):
        raise next(errors)

    context, rows = Context("cpu", True, tmp_path), []
    monkeypatch.setattr(recipes, "TrainingSetup", fail)
    monkeypatch.setattr(Context, "recipes", lambda self: ["resnet18", "convnext_tiny"])
    recipes.peak_memory(context, SimpleNamespace(row=lambda *values, note: rows.append((*values, note))))
    assert [row[0].partition(":")[0] for row in rows] == ["resnet18", "convnext_tiny"]
    assert [row[1] for row in rows] == [0, 0]
    assert rows[0][-1].endswith("; optim.accum_steps: too little memory")
    assert rows[1][-1].endswith("; does not fit into the memory")


def test_targets():
    assert Row("a", 0.95, "", at_least=0.95).meets_target is True
    assert Row("a", 0.02, "", at_most=0.02).meets_target is True
    assert Row("a", float("nan"), "", at_most=0.02).meets_target is False
    assert Row("a", 1.0, "").meets_target is None


def test_the_sections_fit_into_the_time_of_the_battery():
    """Each section can start if those before it need half of their budgets, and none can use up the whole time."""
    budgets = [section.seconds for section in SECTIONS.values()]
    assert sum(budgets) / 2 < 8 * 60
    assert max(budgets) < 120


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name in ("cv2", "wandb") else True)
    assert packages.missing_needed() == ["opencv-python-headless"]
    assert list(packages.missing_optional()) == ["wandb"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the GPU can't be used"),
        (("--device", "cpu"), "add --tiny"),
        (("--device", "cpu", "--tiny", "--only", "update"), "did you mean updates"),
    ],
)
def test_what_is_missing_is_one_error(tmp_path, words, message):
    if not words:
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
    done = run_gpu(tmp_path, *words)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
