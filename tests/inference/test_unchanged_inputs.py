"""What counts as up to date: a submission that is made again would be the same, its manifest and its index too."""

import pytest

from maskfold.inference.unchanged_inputs import LIBRARIES, report_inputs
from maskfold.runs import code_state
from maskfold.runs.run_folder import RunFolder


@pytest.mark.parametrize("name", sorted({*LIBRARIES, *code_state.PACKAGES} - {"maskfold", "scikit-learn"}))
def test_another_version_of_a_library_changes_the_inputs(run, trained, monkeypatch, name):
    """The versions that a run records: all that predict, except maskfold itself, whose code is hashed."""
    runs, version = [RunFolder(run)], code_state.version
    before = report_inputs(runs)
    assert before is not None
    monkeypatch.setattr(code_state, "version", lambda package: "0" if package == name else version(package))
    assert report_inputs(runs) != before
