"""How W&B is started: online, offline or not at all, under which project, and what it may collect."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maskfold.config.experiment import Config, Run, flatten

# The values of WANDB_MODE; dryrun and run are the older words for offline and online.
MODES = {
    "online": "online",
    "run": "online",
    "shared": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}
DEFAULT_PROJECT = "maskfold"
# The variables that W&B may read: who the user is, how the server is reached, and where W&B keeps its own files. Any
# other one would be a setting, which could merge the folds into one run (WANDB_RUN_ID), prolong a wait
# (WANDB_INIT_TIMEOUT) or send source code (WANDB_SAVE_CODE).
VARIABLES = frozenset(
    f"WANDB_{name}"
    for name in (
        *("API_KEY", "IDENTITY_TOKEN_FILE", "CREDENTIALS_FILE", "USERNAME", "USER_EMAIL"),
        *("BASE_URL", "APP_URL", "INSECURE_DISABLE_SSL", "HTTP_PROXY", "HTTPS_PROXY", "X_PROXIES", "_PROXIES"),
        *("X_EXTRA_HTTP_HEADERS", "_EXTRA_HTTP_HEADERS", "SERVICE"),
        *("CONFIG_DIR", "CACHE_DIR", "DATA_DIR", "ARTIFACT_DIR"),
        *("NOTES", "JOB_TYPE", "ERROR_REPORTING", "DEBUG", "CORE_DEBUG"),
    )
)


@contextlib.contextmanager
def known_variables_only() -> Iterator[None]:
    """Hide every variable of W&B that is not among VARIABLES."""
    # W&B would wait once more for its reports on itself as the program ends.
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    names = [name for name in os.environ if name.startswith("WANDB_") and name not in VARIABLES]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextlib.contextmanager
def staged_in(folder: Path) -> Iterator[None]:
    """Keep copies of artifacts' files there until they are sent, unless WANDB_DATA_DIR names a folder.

    W&B's own place is in the home directory, where photos would outlive the run folder.
    """
    if os.environ.get("WANDB_DATA_DIR"):
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(folder.absolute())
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


def session_settings() -> Any:
    """W&B's own settings for this process, from its settings files and the environment, which may have changed."""
    import wandb
    from wandb.sdk import wandb_setup

    if wandb.run is None and wandb_setup.singleton().did_environment_change():
        restart()
    return wandb_setup.singleton().settings


def restart() -> None:
    """End W&B's service, which may have died: the next use of W&B starts another."""
    with contextlib.suppress(Exception):
        from wandb.sdk import wandb_setup

        wandb_setup.teardown(exit_code=1)


def has_key() -> bool:
    """Whether W&B can log in without a prompt: W&B is asked, which host a key is stored under is its own affair."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        with known_variables_only():
            settings = session_settings()
            return bool(settings.api_key or settings.identity_token_file or _stored_key(settings))
    # A broken W&B, or one that reads its keys in another way, must not stop a run.
    except Exception:
        return False


def _stored_key(settings: Any) -> str | None:
    """The key that `wandb login` left in the netrc file."""
    # Where W&B reads it: from 0.24 on, in 0.23, and before.
    for module in ("wandb.sdk.lib.wbauth", "wandb.sdk.lib.auth"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(module).read_netrc_auth(host=settings.base_url)
    return importlib.import_module("wandb.sdk.lib.apikey").api_key(settings)


def _mode_of_settings_files() -> str:
    """What `wandb offline` or `wandb disabled` left in W&B's settings files; without them online."""
    try:
        with known_variables_only():
            return MODES.get(session_settings().mode, "online")
    except Exception:
        return "online"


def wanted_mode(run: Run) -> str:
    """online, offline or disabled. `auto` is WANDB_MODE, then W&B's settings files, then online where there is a key.

    `disabled` holds wherever it is said. A WANDB_MODE that W&B does not know disables it, with a message.
    """
    variable = os.environ.get("WANDB_MODE", "").strip().lower()
    switched_off = os.environ.get("WANDB_DISABLED", "").strip().lower() in ("true", "1", "yes", "on")
    if switched_off or "disabled" in (variable, run.wandb):
        return "disabled"
    if run.wandb != "auto":
        return run.wandb
    if variable and variable not in MODES:
        known = "use online, offline, dryrun or disabled"
        print(f"W&B: WANDB_MODE {variable!r} is not valid, {known}; training goes on without it", file=sys.stderr)
        return "disabled"
    if variable:
        return MODES[variable]
    mode = _mode_of_settings_files()
    return "offline" if mode == "online" and not has_key() else mode


def public_config(config: Config) -> dict[str, Any]:
    """The configuration's keys, dotted, but for those that hold a path of this machine."""
    paths = {key for key, value in flatten(config.model_dump()).items() if isinstance(value, Path)}
    return {key: value for key, value in flatten(config.model_dump(mode="json")).items() if key not in paths}


def destination(run: Run) -> dict[str, Any]:
    """Project, entity and tags for wandb.init: of the configuration, else of the environment."""
    tags = [tag.strip() for tag in os.environ.get("WANDB_TAGS", "").split(",")]
    return {
        "project": run.wandb_project or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT,
        "entity": run.wandb_entity or os.environ.get("WANDB_ENTITY") or None,
        "tags": list(dict.fromkeys(run.wandb_tags or filter(None, tags))) or None,
    }


def init_settings(connect_seconds: float, finish_seconds: float) -> Any:
    """wandb.Settings that bound W&B's waits and collect nothing of this machine: its paths may name people."""
    import wandb

    wishes = {
        "init_timeout": connect_seconds,
        "finish_timeout": finish_seconds,
        "finish_timeout_raises": True,
        "silent": True,
        "console": "off",
        "x_disable_stats": True,
        # The command line, the host, the programs and packages.
        "x_disable_meta": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
        "disable_git": True,
        "disable_code": True,
        "save_code": False,
    }
    # An older W&B has no finish_timeout.
    return wandb.Settings(**{key: value for key, value in wishes.items() if key in wandb.Settings.model_fields})
