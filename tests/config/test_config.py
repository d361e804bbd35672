import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from conftest import ROOT, refused
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maskfold.config.cli import Parser, add_config_flags, config_overrides
from maskfold.config.experiment import KEYS, Config, ConfigSection, config_hash
from maskfold.config.yaml_file import config_text, load_config
from maskfold.errors import UserError

# Importing any of these takes longer than everything that `--help` needs.
HEAVY = {
    "accelerate",
    "albumentations",
    "cv2",
    "matplotlib",
    "numpy",
    "pandas",
    "scipy",
    "sklearn",
    "timm",
    "torch",
    "wandb",
}


def parsed(*words: str):
    parser = Parser(prog="train.py")
    parser.add_argument("file")
    add_config_flags(parser)
    return config_overrides(parser.parse_args(["x.yaml", *words]))


def test_dashes_lists_and_none(tmp_path):
    (tmp_path / "x.yaml").write_text("seed: 7\noptim: {lr: 1e-2, epochs: 7}\ndata: {corrections: a.csv}\nmodel:\n")
    words = "--optim.warmup-epochs 2 --data.image-size 64 48 --data.corrections none --model.pretrained true"
    config = load_config(tmp_path / "x.yaml", parsed(*words.split()))
    assert (config.seed, config.optim.lr, config.optim.epochs, config.optim.warmup_epochs) == (7, 0.01, 7, 2)
    assert config.data.image_size == (64, 48)
    assert config.data.corrections is None
    assert config.model.pretrained is True
    assert config.data.crop == Config().data.crop


def test_crop_none_is_a_choice_not_a_missing_value(tmp_path):
    (tmp_path / "x.yaml").write_text("")
    assert load_config(tmp_path / "x.yaml", parsed("--data.crop", "none")).data.crop == "none"


# Nine levels of nine aliases each: 387 million values, as a list and by merging mappings.
ALIASES = "[&a [x,x,x,x,x,x,x,x,x]"
MERGES = "a: &a {a: 1, b: 1, c: 1}\n"
for old, new in zip("abcdefgh", "bcdefghi", strict=True):
    ALIASES += f", &{new} [{','.join([f'*{old}'] * 9)}]"
    MERGES += f"{new}: &{new} {{<<: [{','.join([f'*{old}'] * 9)}]}}\n"
ALIASES += "]"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optim: {lrr: 0.1}", ["optim.lrr", "optim.lr"]),
        ("optimm: {lr: 0.1}", ["optimm", "optim"]),
        ("lr: 0.1", ["lr", "optim.lr"]),
        ("optim: {lr: -1}", ["optim.lr", "greater than 0"]),
        ("optim: {lr: fast}", ["optim.lr", "'fast'"]),
        ("optim: {lr: true}", ["optim.lr", "number"]),
        ("optim: {lr: .inf}", ["optim.lr", "finite"]),
        ("optim: {epochs: 2.5}", ["optim.epochs"]),
        ("optim: {epochs: 0}", ["optim.epochs"]),
        ("optim: {batch_size: 4, accum_steps: 8}", ["accum_steps 8", "batch_size 4"]),
        ("optim: {epochs: 2, warmup_epochs: 2}", ["warmup_epochs"]),
        ("optim: [1, 2]", ["optim"]),
        ("optim: 3", ["optim"]),
        ("data: {image_size: 128}", ["data.image_size"]),
        ("data: {image_size: [128, 96, 3]}", ["data.image_size"]),
        ("data: {image_size: [128, x]}", ["data.image_size"]),
        ("data: {crop: centre}", ["data.crop", "center"]),
        ("data: {folds: 1}", ["data.folds"]),
        ("data: {num_workers: -1}", ["data.num_workers"]),
        ("loss: {label_smoothing: 1.0}", ["loss.label_smoothing"]),
        ("run: {wandb: maybe}", ["run.wandb"]),
        ("model: {head: arcface}", ["model.head"]),
        ("seed: {a: 1}", ["seed"]),
        ("optim: {lr: 1\n", ["not readable"]),
        ("seed: 1\nseed: 2\n", ["seed", "twice"]),
        ("optim: {lr: !!python/object/apply:os.getcwd []}", ["not readable"]),
        ("- 1\n- 2\n", ["mapping"]),
        ("? [1, 2]\n: 3\n", ["x.yaml"]),
        ("\x00\x01", ["not readable"]),
        ("seed: 2023-02-30\n", ["not readable"]),
        ("seed: !!int x\n", ["not readable"]),
        ("seed: !!bool x\n", ["not readable"]),
        ("[" * 3000, ["not readable"]),
        ("seed: 10000000000000000\n", ["seed", "4294967295"]),
        ("optim: {batch_size: 100000000000000000000}\n", ["optim.batch_size"]),
        ("data: {corrections: " + "x" * 300 + "}", ["data.corrections", "a valid path is expected"]),
        ('model: {weights: "a\\0b"}', ["model.weights", "a valid path is expected"]),
        ("seed: !!int ''\n", ["not readable"]),
        ('seed: "\\UFFFFFFFF"\n', ["not readable"]),
        ("seed: 0x" + "f" * 5000, ["seed", "an integer of 20000 bits"]),
        ("data: " + "{a: " * 60 + "1" + "}" * 60, ["not readable", "levels"]),
        (ALIASES, ["not readable", "values"]),
        (f"data: {{augment: {ALIASES}}}", ["not readable", "values"]),
        (MERGES, ["not readable", "values"]),
        ("\n".join(f"key{n}: 1" for n in range(9000)), ["not readable", "values"]),
        ("seed: 1 #" + "x" * 100_000, ["100,0", "bytes"]),
    ],
)
def test_a_faulty_file_is_refused_with_file_and_key(script, tmp_path, text, words):
    (tmp_path / "x.yaml").write_text(text)
    refused(script("train", "x.yaml", "--data.root", "nowhere"), "x.yaml", *words)
    assert not (tmp_path / "runs").exists()


def test_a_binary_file_is_refused(script, tmp_path):
    (tmp_path / "x.yaml").write_bytes(bytes(range(128, 256)))
    refused(script("train", "x.yaml"), "x.yaml", "not readable")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--optim.lrr", "1"], ["--optim.lrr", "--optim.lr"]),
        (["--optim.lr", "-1"], ["--optim.lr", "greater than 0"]),
        (["--optim.lr", "x"], ["--optim.lr", "'x'"]),
        (["--data.image_size", "64"], ["--data.image_size"]),
        (["--fods", "1"], ["--fods", "--folds"]),
        (["--folds", "x"], ["--folds"]),
        (["--optim.lr"], ["--optim.lr"]),
        (["extra"], ["extra"]),
    ],
)
def test_a_faulty_flag_is_refused(script, tmp_path, words, expected):
    (tmp_path / "x.yaml").write_text("")
    refused(script("train", "x.yaml", *words), *expected)


def test_all_faults_are_reported_at_once(script, tmp_path):
    (tmp_path / "x.yaml").write_text("optim: {lr: -1, epoch: 3}\n")
    refused(script("train", "x.yaml", "--data.crop", "oval"), "optim.lr", "optim.epoch", "--data.crop", "3 errors")


def test_a_missing_file_suggests_a_similar_one(script, tmp_path):
    (tmp_path / "resnet18.yaml").write_text("")
    refused(script("train", "resnet81.yaml"), "resnet81.yaml", "resnet18.yaml")
    refused(script("train", "."), "error: .:", "resnet18.yaml")


def test_saving_and_loading_keeps_the_config(tmp_path):
    (tmp_path / "x.yaml").write_text("data: {root: 데이터/raw, image_size: [64, 48]}\noptim: {lr: 0.00003}\n")
    config = load_config(tmp_path / "x.yaml")
    (tmp_path / "y.yaml").write_text(config_text(config), encoding="utf-8")
    assert load_config(tmp_path / "y.yaml") == config


def test_hash_ignores_keys_that_do_not_change_the_result(tmp_path):
    (tmp_path / "x.yaml").write_text("")
    base = load_config(tmp_path / "x.yaml")
    wandb = {"run.wandb": "disabled", "run.wandb_photos": "true", "run.wandb_tags": ["a", "b"]}
    wandb |= {"run.wandb_oof": "true", "run.wandb_project": "p", "run.wandb_entity": "e"}
    same = load_config(tmp_path / "x.yaml", {"data.num_workers": "3", "run.device": "cpu", **wandb})
    other = load_config(tmp_path / "x.yaml", {"optim.lr": "0.5"})
    assert config_hash(base) == config_hash(same) != config_hash(other)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--loss.age_weight", 1), "loss.age_weight 1.0 needs model.head factored"),
        (("--data.sampling", "balanced", "--loss.class_weights", "effective"), "choose one"),
        (("--loss.name", "soft_f1", "--loss.class_weights", "inverse"), "no effect on soft_f1 alone"),
        (("--mix.name", "cutmix", "--model.frozen_epochs", "all"), "model.cache_features to false"),
    ],
)
def test_invalid_combinations_of_keys_are_refused(script, words, message):
    done = script("train", ROOT / "configs" / "demo.yaml", *words)
    refused(done, "demo.yaml: ", message)
    assert "{" not in done.err


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_configs_are_valid_and_begin_with_a_comment(file):
    load_config(file)
    assert file.read_text().startswith("# ")


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "scripts").glob("*.py")))
def test_help_is_complete_and_imports_no_heavy_library(name):
    """Checks imports instead of seconds, which depend on the machine; imports take most of the time."""
    script = ROOT / "scripts" / f"{name}.py"
    done = subprocess.run([sys.executable, "-X", "importtime", script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "maskfold" in imported
    assert not imported & HEAVY
    assert "default: " in done.stdout
    if name in ("train", "baselines"):
        for key in KEYS:
            assert f"--{key} " in done.stdout
        flat = " ".join(done.stdout.split())
        # Beside the keys: --out, --cache and --no-lock, and six flags of train.py alone.
        assert flat.count("(default: ") == len(KEYS) + 3 + 7 * (name == "train")


def test_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Config().optim.lr = 1


SECTIONS = [key for key in Config.model_fields if isinstance(getattr(Config(), key), ConfigSection)]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates() | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
KEY = st.sampled_from(KEYS).map(lambda key: key.rpartition(".")[2]) | st.text(max_size=8)
SECTION = VALUES | st.dictionaries(KEY, VALUES, max_size=4)
MAPPING = st.dictionaries(st.sampled_from([*SECTIONS, "seed"]) | st.text(max_size=8), SECTION, max_size=4)


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=60)
    | st.text(max_size=60).map(str.encode)
    | st.text(alphabet="[]{}:,-?!&*|>%@`#'\"\n ~x1", max_size=60).map(str.encode)
    | (MAPPING | VALUES).map(lambda content: yaml.safe_dump(content, allow_unicode=True).encode())
)
@example(b"")
@example(b"optim: {lr: !!float x}")
@example(b"a: &a [*a]")
@example(b"&a {optim: *a}")
@example(b"? {a: b}\n: c")
@example(b"? &k [*k]\n: c")
@example(b"<<: 1")
@example(b"<<: [1, {optim: 2}]")
@example(b"--- 1\n--- 2\n")
@example(b"%YAML 9.9\n---\nseed: 1")
@example(b"seed: " + b"9" * 5000)
@example(b"seed: 1:60:99999999999999999999")
@example(b"\xff\xfe")
@example(b"seed: 9999-99-99T99:99:99")
def test_load_config_raises_user_errors_only(content):
    """Whatever a file holds; a place that is no file too."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.yaml"
        path.write_bytes(content)
        try:
            config = load_config(path)
        except UserError as fault:
            assert "x.yaml" in str(fault)
        else:
            assert isinstance(config, Config)


def test_a_place_that_is_no_file_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "file" / "x.yaml"):
        with pytest.raises(UserError, match="no such configuration file"):
            load_config(path)


def test_errors_of_the_file_system_name_the_path(script, tmp_path):
    """A file in the place of a folder, a name that is too long: one error with the path, no traceback."""
    (tmp_path / "file").write_text("")
    refused(script("make_demo_data", "--out", "file/demo", "--people", 6, "--eval-people", 6), "file")
    refused(script("make_demo_data", "--out", "file"), "file")
    (tmp_path / "x.yaml").write_text("")
    (tmp_path / "raw").mkdir()
    refused(script("prepare", "--data", "raw", "--out", "file/p"), "file/p", "not a folder")
    refused(script("train", "x" * 300 + ".yaml"), "xxx")


def test_a_value_may_begin_with_an_underscore(script, tmp_path):
    (tmp_path / "x.yaml").write_text("")
    refused(script("train", "x.yaml", "--name", "_h", "--data.root", "nowhere"), "nowhere")
