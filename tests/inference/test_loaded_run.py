"""maskfold.load_run(...).predict(...): predict any photos with a finished run."""

import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

import maskfold
from maskfold.data.images_table import load_prepared
from maskfold.errors import UserError
from maskfold.inference.cached_predictions import predict_runs
from maskfold.labels import marginals
from maskfold.runs.run_folder import RunFolder


@pytest.fixture(scope="module")
def copied(trained, tmp_path_factory):
    """A copy of the run folder in another place, without the data."""
    return shutil.copytree(trained.run.folder, tmp_path_factory.mktemp("복사 copy") / "run")


def test_predictions_equal_those_of_a_submission(trained, copied):
    prepared = load_prepared(trained.prepared)
    [(predictions, _)] = predict_runs([RunFolder(copied)], [prepared], ("none", "hflip"))
    paths = prepared.photo_paths(prepared.evaluation)
    table = maskfold.load_run(copied).predict(paths, tta=["none", "hflip"])
    assert table.path.tolist() == [str(path) for path in paths]
    assert table.label.tolist() == predictions.pred_labels.tolist()
    by_axis = marginals(predictions.probs)
    np.testing.assert_allclose(table[["p_male", "p_female"]].to_numpy(), by_axis["gender"], atol=1e-5)
    ages = table[["p_age_under_30", "p_age_30_59", "p_age_60_plus"]].to_numpy()
    np.testing.assert_allclose(ages, by_axis["age"], atol=1e-5)
    np.testing.assert_allclose(ages.sum(1), 1, atol=1e-5)


def test_arrays_of_any_size(trained, copied):
    path = next((trained.raw / "train" / "images").glob("*/normal.*"))
    array = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    model = maskfold.load_run(copied)
    table = model.predict([array, array[:40, :30], np.zeros((5, 700, 3), np.uint8)])
    assert table.path.tolist() == ["", "", ""]
    assert set(table["gender"]) <= {"male", "female"}
    assert len(model.predict([])) == 0


@pytest.mark.parametrize("image", [np.zeros((9, 9, 3)), np.zeros((9, 9), np.uint8), 3, "no/such.jpg"])
def test_an_invalid_image_is_refused(copied, image):
    with pytest.raises(UserError, match=r"images\[1\]|such.jpg"):
        maskfold.load_run(copied).predict([np.zeros((9, 9, 3), np.uint8), image])


def test_import_is_fast_and_a_missing_run_is_refused(tmp_path):
    code = "import sys, maskfold; maskfold.load_run; print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    with pytest.raises(UserError, match="not a run folder"):
        maskfold.load_run(tmp_path)
