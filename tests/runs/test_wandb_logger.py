"""W&B mirrors metrics.jsonl, and no error of W&B changes a run."""

import builtins
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from conftest import tiny_args

from maskfold.config.experiment import Config, Run
from maskfold.metrics.confusion import confusion_matrices, most_confident_errors
from maskfold.probabilities import Predictions, load_predictions
from maskfold.runs import wandb_logger as wandb_logger
from maskfold.runs import wandb_settings

WANDB = Path(sys.executable).with_name("wandb")


@pytest.fixture
def tracked(monkeypatch):
    """W&B for a user who never logged in: no key, no mode, no terminal."""
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.setenv("WANDB_SILENT", "true")


def wandb_args(synthetic, *more, mode="auto"):
    return [arg if arg != "disabled" else mode for arg in tiny_args(synthetic, "--data.prepared", "p", *more)]


def run_dir_of(part):
    """The folder of a part's offline run; the record names it relative to the run folder."""
    return Path("runs/w") / json.loads(Path(f"runs/w/{part}/wandb.json").read_text())["offline"]


def records(run_dir):
    """The records of an offline run."""
    command = [WANDB, "leet", "inspect", "--json", run_dir]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    return [json.loads(line) for line in done.stdout.splitlines()]


def wandb_files(run):
    """Every file that W&B has written for a run, with its content."""
    return {path: path.read_bytes() for path in Path("runs", run, "wandb").rglob("*") if path.is_file()}


def table_of(run_dir, name):
    [path] = (Path(run_dir) / "files" / "media" / "table").glob(f"{name}*.table.json")
    return json.loads(path.read_text())


def rows_of(run, part):
    return [json.loads(line) for line in (Path("runs") / run / part / "metrics.jsonl").read_text().splitlines()]


def history_of(run_dir):
    rows = [record["history"]["item"] for record in records(run_dir) if record["type"] == "history"]
    plain = [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]
    return [row for row in plain if "train_loss" in row]


@pytest.mark.slow
def test_an_offline_run_equals_metrics_jsonl(script, synthetic, tracked):
    done = script("train", *wandb_args(synthetic, "--name", "w"))
    assert done.code == 0, done.err
    for part in ("fold0", "fold1"):
        run_dir = run_dir_of(part)
        assert history_of(run_dir) == [pytest.approx(row) for row in rows_of("w", part)]
        log = records(run_dir)
        [run] = [record["run"] for record in log if record["type"] == "run"]
        assert (run["run_group"], run["display_name"], run["project"]) == ("w", f"w-{part}", "maskfold")
        config = run["config"]["update"]
        assert (config["optim.batch_size"], config["part"]) == (16, part)
        assert "git_commit" in config
        summary = {}
        for record in log:
            if record["type"] == "summary":
                summary |= record["summary"]["update"]
        best = max(rows_of("w", part), key=lambda row: row["macro_f1"])
        assert summary["best_macro_f1"] == pytest.approx(best["macro_f1"])
        assert summary["best_epoch"] == best["epoch"]
        assert "mistakes" in summary
        assert "confusion/classes" in summary
        assert str(run_dir) in done.err
    assert done.err.count("wandb sync ") == 1


@pytest.mark.slow
def test_a_resumed_fold_continues_its_run(script, synthetic, tracked):
    """Stopped after an epoch and resumed: the same W&B run id, and its last offline folder has all epochs."""
    import wandb

    from maskfold.training import fold_trainer as module

    args = wandb_args(synthetic, "--name", "w", "--folds", 0)
    original, calls = module.WandbLogger.log, []

    def stop(self, row):
        original(self, row)
        calls.append(row["epoch"])
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.WandbLogger, "log", stop)
        assert script("train", *args).code == 130
    first = json.loads(Path("runs/w/fold0/wandb.json").read_text())
    # The end of the process does this.
    wandb.teardown()
    time.sleep(1.1)
    done = script("train", *args)
    assert done.code == 0, done.err
    second = json.loads(Path("runs/w/fold0/wandb.json").read_text())
    assert first["id"] == second["id"]
    assert first["offline"] != second["offline"]
    assert [row["epoch"] for row in history_of(Path("runs/w") / second["offline"])] == [1, 2]
    # Only the whole one is to be sent.
    assert second["offline"] in done.err
    assert first["offline"] not in done.err


@pytest.mark.slow
def test_no_photo_id_or_path_is_in_a_run(script, synthetic, tracked, monkeypatch):
    """Nothing identifies a person, whatever W&B's variables are; each fold is still a separate run."""
    for name, value in {
        "SAVE_CODE": "true",
        "DISABLE_META": "false",
        "X_DISABLE_META": "false",
        "CONSOLE": "redirect",
        "RUN_ID": "one",
        # An invalid value, with which W&B would not start.
        "RESUME": "sometimes",
        "NAME": "one",
        "RUN_GROUP": "one",
        "DIR": str(Path("elsewhere").absolute()),
        "FORK_FROM": "one?_step=1",
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    corrections = Path("corrections.csv").absolute()
    corrections.write_text("person_id,field,value,reason\n")
    args = wandb_args(synthetic, "--name", "w", "--optim.epochs", 1, "--data.corrections", corrections, mode="offline")
    done = script("train", *args)
    assert done.code == 0, done.err
    assert not Path("elsewhere").exists()
    run_dirs = [run_dir_of(part) for part in ("fold0", "fold1")]
    runs = [record["run"] for run_dir in run_dirs for record in records(run_dir) if record["type"] == "run"]
    assert [(run["run_group"], run["display_name"]) for run in runs] == [("w", "w-fold0"), ("w", "w-fold1")]
    assert len({run["run_id"] for run in runs} | {"one"}) == 3
    people = [folder.name for folder in (synthetic / "train" / "images").iterdir()]
    private = [name.encode() for name in [*people, str(synthetic), str(corrections)]]
    files = wandb_files("w")
    for path, content in files.items():
        assert not [name for name in private if name in content], path
        # No PNG, no JPEG.
        assert not [start for start in (b"\x89PNG", b"\xff\xd8\xff") if start in content], path
    # In the binary log a record may be split over blocks, so that the records are searched as well.
    text = json.dumps([records(run_dir) for run_dir in run_dirs], ensure_ascii=False)
    assert not [name for name in private if name.decode() in text]
    oof = load_predictions(Path("runs/w/fold0/oof.npz"), True)
    table = table_of(run_dirs[0], "mistakes")
    assert table["columns"] == ["row", "true", "predicted", "probability"]
    assert [row[1:] for row in table["data"]] == [
        [true, predicted, pytest.approx(p)] for _, _, true, predicted, p in most_confident_errors(oof)
    ]
    assert [row[0] for row in table["data"]] == [index for index, *_ in most_confident_errors(oof)]
    assert len(table["data"]) > 0


def test_photos_are_sent_only_with_wandb_photos(script, synthetic, tracked):
    done = script("train", *wandb_args(synthetic, "--name", "w", "--folds", 0, "--run.wandb_photos", "true"))
    assert done.code == 0, done.err
    run_dir = run_dir_of("fold0")
    oof = load_predictions(Path("runs/w/fold0/oof.npz"), True)
    errors = most_confident_errors(oof)
    table = table_of(run_dir, "mistakes")
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["image_id"], row["row"]) for row in rows] == [(name, index) for index, name, *_ in errors]
    assert len(rows) > 0
    pictures = [cv2.imread(str(run_dir / "files" / row["file"])) for row in rows]
    assert all(picture is not None and picture.std() > 0 for picture in pictures)
    # All photos differ, so that every row has its own.
    assert len({picture.tobytes() for picture in pictures}) == len(rows)
    log = records(run_dir)
    sent = {file["path"] for record in log if record["type"] == "files" for file in record["files"]["files"]}
    assert {row["file"] for row in rows} <= sent
    # What `wandb sync` sends for the table's own pictures is kept in the run folder.
    [artifact] = [
        record["artifact"]
        for record in log
        if record["type"] == "artifact" and record["artifact"]["name"].endswith("mistakes")
    ]
    kept = {entry["path"]: Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]}
    assert all(path.is_relative_to(Path("runs/w").absolute()) for path in kept.values())
    [whole] = [json.loads(path.read_text()) for name, path in kept.items() if name.endswith(".table.json")]
    cells = [row[whole["columns"].index("photo")] for row in whole["data"]]
    again = [cv2.imdecode(np.frombuffer(kept[cell["path"]].read_bytes(), np.uint8), cv2.IMREAD_COLOR) for cell in cells]
    assert [picture.tobytes() for picture in again] == [picture.tobytes() for picture in pictures]
    # The history equals metrics.jsonl as without photos.
    assert history_of(run_dir) == [pytest.approx(row) for row in rows_of("w", "fold0")]


def oof_of(name):
    return load_predictions(Path(f"runs/{name}/oof.npz"), True).probs


@pytest.mark.slow
def test_a_key_without_a_network_is_waited_for_once(script, synthetic, tracked, monkeypatch):
    """No server at the address: one wait, then both folds are logged offline, and the run is the same."""
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(wandb_logger, "SECONDS_TO_CONNECT", 3)
    done = script("train", *wandb_args(synthetic, "--name", "w"))
    assert done.code == 0, done.err
    assert done.err.count("can't be reached") == 1
    wandb_records = [json.loads(Path(f"runs/w/fold{fold}/wandb.json").read_text()) for fold in (0, 1)]
    assert all(each["offline"] for each in wandb_records)
    assert wandb_records[1]["start_seconds"] < wandb_records[0]["start_seconds"]
    assert script("train", *tiny_args(synthetic, "--data.prepared", "p", "--name", "plain")).code == 0
    np.testing.assert_array_equal(oof_of("w"), oof_of("plain"))


@pytest.mark.slow
def test_a_server_that_never_answers_costs_a_limited_time(synthetic, tracked, tmp_path):
    """With a socket that accepts and never answers, the run takes longer than offline by the two limits at most."""
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(64)
    train = Path(__file__).parents[2] / "scripts" / "train.py"
    environ = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    environ |= {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}

    def seconds(mode: str) -> float:
        args = wandb_args(synthetic, "--name", mode, "--optim.epochs", 1, mode=mode)
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(train), *map(str, args)], cwd=tmp_path, capture_output=True, text=True, env=environ
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("can't be reached") == (mode == "online")
        return time.monotonic() - start

    offline = seconds("offline")
    assert seconds("online") - offline < wandb_logger.SECONDS_TO_CONNECT + wandb_logger.SECONDS_TO_FINISH


@pytest.mark.parametrize("fault", [TypeError, ImportError])
def test_a_broken_wandb_stops_no_run(script, synthetic, tracked, monkeypatch, fault):
    original = builtins.__import__

    def broken(name, *args, **more):
        if name.partition(".")[0] == "wandb":
            raise fault("broken")
        return original(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", broken)
    done = script("train", *wandb_args(synthetic, "--name", "w", "--folds", 0))
    assert done.code == 0, done.err
    assert "W&B: broken; training continues without W&B" in done.err


def test_online_without_a_key_is_kept_offline(script, synthetic, tracked):
    done = script("train", *wandb_args(synthetic, "--name", "w", "--folds", 0, mode="online"))
    assert done.code == 0, done.err
    # There is no prompt for a key, which would block.
    assert "the mode online needs an API key" in done.err
    assert json.loads(Path("runs/w/fold0/wandb.json").read_text())["offline"] in done.err


@pytest.mark.slow
def test_a_killed_service_stops_no_run(synthetic, tracked, tmp_path, script):
    """SIGKILL to W&B's process after the first epoch: exit status 0, one message, the same predictions."""
    code = """
import os, runpy, signal, sys
from pathlib import Path
from maskfold.training import fold_trainer as part
sys.argv.pop(0)
original = part.WandbLogger.log
def log(self, row):
    original(self, row)
    if row["epoch"] == 1 and "fold0" in str(self._path):
        commands = {entry: (entry / "cmdline").read_bytes() for entry in Path("/proc").iterdir() if entry.name.isdigit()}
        mine = f"--pid\\0{os.getpid()}".encode()
        [service] = [entry for entry, words in commands.items() if b"wandb-core" in words and mine in words]
        os.kill(int(service.name), signal.SIGKILL)
part.WandbLogger.log = log
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    train = Path(__file__).parents[2] / "scripts" / "train.py"
    command = [sys.executable, "-c", code, str(train), *map(str, wandb_args(synthetic, "--name", "w"))]
    # The subprocess must not use the service of this process, which earlier tests have started.
    environ = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the W&B run may lack epochs of fold0") == 1
    assert "Traceback" not in done.stderr
    assert script("train", *tiny_args(synthetic, "--data.prepared", "p", "--name", "plain")).code == 0
    np.testing.assert_array_equal(oof_of("w"), oof_of("plain"))
    # The next fold has started a new service.
    assert len(history_of(run_dir_of("fold1"))) == 2


def test_time_in_wandb_is_recorded(script, synthetic, tracked):
    start = time.monotonic()
    assert script("train", *wandb_args(synthetic, "--name", "w", "--folds", 0)).code == 0
    record = json.loads(Path("runs/w/fold0/wandb.json").read_text())
    assert record["start_seconds"] > 0
    assert record["seconds"] > 0
    assert record["start_seconds"] + record["seconds"] < time.monotonic() - start


@pytest.fixture
def keyless(tracked, monkeypatch, tmp_path):
    """W&B without a key, a mode or a settings file."""
    for name in [name for name in os.environ if name.startswith("WANDB_") and name != "WANDB_SERVICE"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_modes(monkeypatch, keyless):
    assert wandb_logger.wanted_mode(Run()) == "offline"
    assert wandb_logger.wanted_mode(Run(wandb="online")) == "online"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_logger.wanted_mode(Run()) == "online"
    assert wandb_logger.wanted_mode(Run(wandb="offline")) == "offline"
    for word, mode in {"dryrun": "offline", "offline": "offline", "online": "online", "run": "online"}.items():
        monkeypatch.setenv("WANDB_MODE", word)
        assert wandb_logger.wanted_mode(Run()) == mode
        assert wandb_logger.wanted_mode(Run(wandb="online")) == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_logger.wanted_mode(Run(wandb="online")) == "disabled"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_DISABLED", "true")
    assert wandb_logger.wanted_mode(Run(wandb="online")) == "disabled"


def test_an_invalid_mode_disables_wandb(monkeypatch, keyless, capsys):
    """A typing error must not send anything."""
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_MODE", "of-line")
    assert wandb_logger.wanted_mode(Run()) == "disabled"
    assert "'of-line'" in capsys.readouterr().err
    assert wandb_logger.wanted_mode(Run(wandb="offline")) == "offline"


def test_dryrun_is_offline_from_start_to_end(script, synthetic, tracked, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    done = script("train", *wandb_args(synthetic, "--name", "w", "--folds", 0, "--optim.epochs", 1))
    assert done.code == 0, done.err
    assert json.loads(Path("runs/w/fold0/wandb.json").read_text())["offline"] in done.err


def login(host):
    """Write what `wandb login` of 0.22 and of 0.31 writes for a host."""
    Path(os.environ["NETRC"]).write_text(f"machine {host}\n  login user\n  password {'0' * 40}\n")


def default_host():
    import wandb

    return urlsplit(wandb.Settings().base_url).netloc


def test_a_key_stored_by_an_older_wandb_or_by_this_one(keyless):
    """W&B 0.31 changed the default host from api.wandb.ai."""
    assert not wandb_logger.has_key()
    for host in ("api.wandb.ai", default_host()):
        login(host)
        assert wandb_logger.has_key(), host
        assert wandb_logger.wanted_mode(Run()) == "online"
    login("api.example.org")
    assert not wandb_logger.has_key()


@pytest.mark.parametrize("by", ["variable", "settings"])
def test_a_key_for_a_private_server(keyless, monkeypatch, tmp_path, by):
    if by == "variable":
        monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    else:
        # Written by `wandb login --host`.
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / "settings").write_text("[default]\nbase_url = https://wandb.example.org\n")
    login("wandb.example.org")
    assert wandb_logger.has_key()
    login(default_host())
    assert not wandb_logger.has_key()


def test_auto_follows_wandb_offline(keyless, tmp_path):
    login(default_host())
    assert wandb_logger.wanted_mode(Run()) == "online"
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings").write_text("[default]\nmode = offline\n")
    # W&B reads its settings once per process.
    wandb_settings.restart_service()
    assert wandb_logger.wanted_mode(Run()) == "offline"
    assert wandb_logger.wanted_mode(Run(wandb="online")) == "online"


def test_a_broken_netrc_is_no_key(keyless):
    for text in ("machine", "machine api.wandb.ai login user password short\n", "\0"):
        Path(os.environ["NETRC"]).write_text(text)
        assert not wandb_logger.has_key()
    Path(os.environ["NETRC"]).unlink()
    Path(os.environ["NETRC"]).mkdir()
    assert not wandb_logger.has_key()


def test_auto_is_online_with_a_stored_key(keyless, monkeypatch, tmp_path):
    (tmp_path / "w" / "fold0").mkdir(parents=True)
    fake = Fake(monkeypatch, tmp_path)
    login("api.wandb.ai")
    wandb_logger.WandbLogger(Config(), tmp_path / "w", "fold0")
    assert [mode for mode, _ in fake.starts] == ["online"]


def test_project_entity_and_tags(keyless, monkeypatch, tmp_path):
    """The configuration overrides the variable, which overrides the default."""
    (tmp_path / "w" / "fold0").mkdir(parents=True)
    fake = Fake(monkeypatch, tmp_path)

    def sent(**keys):
        wandb_logger.WandbLogger(Config(run=Run(**keys)), tmp_path / "w", "fold0")
        return [fake.options[-1][key] for key in ("project", "entity", "tags")]

    assert sent() == ["maskfold", None, None]
    for name, value in {"PROJECT": "mine", "ENTITY": "team", "TAGS": "a, b,"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    assert sent() == ["mine", "team", ["a", "b"]]
    assert sent(wandb_project="p", wandb_entity="e", wandb_tags=("t", "t")) == ["p", "e", ["t"]]
    assert os.environ["WANDB_PROJECT"] == "mine"


def test_project_and_tags_in_an_offline_run(script, synthetic, tracked, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    args = wandb_args(synthetic, "--name", "w", "--folds", 0, "--optim.epochs", 1, "--run.wandb_tags", "a", "b")
    assert script("train", *args).code == 0
    run_dir = run_dir_of("fold0")
    [run] = [record["run"] for record in records(run_dir) if record["type"] == "run"]
    assert (run["project"], run["entity"], run["tags"]) == ("mine", "team", ["a", "b"])


@pytest.mark.parametrize(
    "key, value", [("wandb_project", "a/b"), ("wandb_entity", ""), ("wandb_tags", "x" * 65), ("wandb_photos", "some")]
)
def test_values_that_wandb_would_refuse_are_refused_first(script, synthetic, key, value):
    done = script("train", *tiny_args(synthetic, "--name", "w", f"--run.{key}", value))
    assert done.code == 2
    assert f"--run.{key}" in done.err


class Fake:
    """A fake W&B that records what is logged to which run; finishes=False: the data can't be sent."""

    def __init__(self, monkeypatch, tmp_path, finishes=True):
        import wandb

        self.rows, self.starts, self.options, outer = [], [], [], self

        class FakeRun:
            def __init__(self, mode, dir):
                self.dir = f"{dir}/wandb/run-1/files"
                Path(self.dir).mkdir(parents=True, exist_ok=True)
                self.settings, self.summary = SimpleNamespace(mode=mode), {}

            def define_metric(self, *_, **__):
                pass

            def log(self, row, step):
                outer.rows.append(row["epoch"])

            def finish(self):
                if not finishes:
                    raise TimeoutError("could not be sent")

        def init(mode, **options):
            outer.starts.append((mode, options["id"]))
            outer.options.append(options)
            return FakeRun(mode, options["dir"])

        monkeypatch.setattr(wandb, "init", init)
        monkeypatch.setattr(wandb, "teardown", lambda **_: None)


def test_a_fold_started_offline_is_resumed_online_with_all_epochs(monkeypatch, tracked, tmp_path):
    (tmp_path / "w" / "fold0").mkdir(parents=True)
    fake, history = Fake(monkeypatch, tmp_path), [{"epoch": 1}, {"epoch": 2}]
    first = wandb_logger.WandbLogger(Config(), tmp_path / "w", "fold0")
    for row in history:
        first.log(row)
    assert len(wandb_logger.offline_runs(tmp_path / "w")) == 1
    monkeypatch.setenv("WANDB_API_KEY", "x")
    again = wandb_logger.WandbLogger(Config(), tmp_path / "w", "fold0", history)
    again.log({"epoch": 3})
    assert [mode for mode, _ in fake.starts] == ["offline", "online"]
    assert len({name for _, name in fake.starts}) == 1
    assert fake.rows == [1, 2, 1, 2, 3]
    assert wandb_logger.offline_runs(tmp_path / "w") == []


def test_unsent_data_are_listed_and_waited_for_once(monkeypatch, tracked, tmp_path, capsys):
    (tmp_path / "w" / "fold0").mkdir(parents=True)
    (tmp_path / "w" / "fold1").mkdir()
    fake = Fake(monkeypatch, tmp_path, finishes=False)
    monkeypatch.setenv("WANDB_API_KEY", "x")
    first = wandb_logger.WandbLogger(Config(), tmp_path / "w", "fold0")
    first.finish([], None, None, False)
    assert "could not be sent" in capsys.readouterr().err
    assert wandb_logger.offline_runs(tmp_path / "w") == [tmp_path / "w" / "wandb" / "run-1"]
    wandb_logger.WandbLogger(Config(), tmp_path / "w", "fold1")
    assert [mode for mode, _ in fake.starts] == ["online", "offline"]


def test_unsent_data_are_found_in_a_moved_run_until_they_are_uploaded(monkeypatch, tracked, tmp_path):
    (tmp_path / "w" / "fold0").mkdir(parents=True)
    Fake(monkeypatch, tmp_path)
    wandb_logger.WandbLogger(Config(), tmp_path / "w", "fold0").log({"epoch": 1})
    moved = (tmp_path / "w").rename(tmp_path / "moved")
    assert wandb_logger.offline_runs(moved) == [moved / "wandb" / "run-1"]
    # A run of an older version.
    (moved / "fold0" / "wandb.json").write_text(json.dumps({"offline": str(tmp_path / "w" / "wandb" / "run-1")}))
    assert wandb_logger.offline_runs(moved) == [moved / "wandb" / "run-1"]
    (moved / "wandb" / "run-1" / "run-abc.wandb.synced").touch()
    assert wandb_logger.offline_runs(moved) == []


@pytest.mark.parametrize(
    "content", ["null", "[1]", "{}", "no json", '{"id": 3, "seconds": null, "offline": 5}', '{"offline": "a\\u0000"}']
)
def test_a_damaged_record_stops_nothing(monkeypatch, tracked, tmp_path, content):
    (tmp_path / "w" / "fold0").mkdir(parents=True)
    (tmp_path / "w" / "fold0" / "wandb.json").write_text(content)
    assert wandb_logger.offline_runs(tmp_path / "w") == []
    Fake(monkeypatch, tmp_path)
    wandb_logger.WandbLogger(Config(), tmp_path / "w", "fold0").log({"epoch": 1})


def test_errors_and_confusion_matrices_by_hand():
    probs = np.full((4, 18), 0.01)
    for row, (label, p) in enumerate(((0, 0.9), (7, 0.6), (2, 0.8), (17, 0.5))):
        probs[row, label] = p
    labels = np.array([0, 1, 5, 17])
    oof = Predictions(np.array(list("abcd")), probs, labels, np.zeros(4, int), np.array(list("pqrs")))
    errors = most_confident_errors(oof)
    assert [(row, name) for row, name, *_ in errors] == [(2, "c"), (1, "b")]
    assert errors[0][2:4] == ("worn, female, >=60", "worn, male, >=60")
    by_name = {name: rows for name, _, rows in confusion_matrices(oof)}
    assert by_name["gender"] == [["male", 2, 0], ["female", 1, 1]]
    assert by_name["mask"][0] == ["worn", 2, 1, 0]
    assert sum(sum(row[1:]) for row in by_name["classes"]) == 4


def test_disabled_wandb_writes_nothing(script, synthetic):
    assert script("train", *tiny_args(synthetic, "--name", "w", "--folds", 0)).code == 0
    assert not list(Path("runs/w").rglob("*wandb*"))
    shutil.rmtree("runs")
