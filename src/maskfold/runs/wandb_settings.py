"""Settings of Weights & Biases: the mode (online, offline, disabled), the project, and what W&B may collect."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maskfold.config.experiment import Config, Run, flatten

# Valid values of WANDB_MODE; dryrun and run are old names of offline and online.
MODES = {
    "online": "online",
    "run": "online",
    "shared": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}
DEFAULT_PROJECT = "maskfold"
# The variables that are not hidden from W&B: the user's identity, the connection to the server, the folders of W&B's
# own files, notes and debugging. Other variables could merge the folds into one run (WANDB_RUN_ID), lengthen a wait
# (WANDB_INIT_TIMEOUT) or send source code (WANDB_SAVE_CODE).
ALLOWED_VARIABLES = frozenset(
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
def hide_unknown_variables() -> Iterator[None]:
    """Within the block, remove the WANDB_ variables that are not in ALLOWED_VARIABLES from the environment."""
    # Otherwise W&B delays the end of the program to send its own error reports.
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    names = [name for name in os.environ if name.startswith("WANDB_") and name not in ALLOWED_VARIABLES]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextlib.contextmanager
def staging_dir(folder: Path) -> Iterator[None]:
    """Let W&B keep its copies of artifact files, until they are sent, in WANDB_DATA_DIR if it is set, else in `folder`.

    By default W&B keeps the copies in the home directory, where photos would remain after the run folder is deleted.
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
    """Return W&B's settings in this process, read from W&B's settings files and the current environment.

    After a change of the environment, W&B's service is restarted first; during a W&B run, the old settings stay.
    """
    import wandb
    from wandb.sdk import wandb_setup

    if wandb.run is None and wandb_setup.singleton().did_environment_change():
        restart_service()
    return wandb_setup.singleton().settings


def restart_service() -> None:
    """End W&B's service process if it is still alive. The next use of W&B starts a new one."""
    with contextlib.suppress(Exception):
        from wandb.sdk import wandb_setup

        wandb_setup.teardown(exit_code=1)


def has_key() -> bool:
    """Whether W&B can log in without a prompt.

    W&B's own functions decide this, because versions of W&B store the key under different host names.
    """
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        with hide_unknown_variables():
            settings = session_settings()
            return bool(settings.api_key or settings.identity_token_file or _stored_key(settings))
    # A broken W&B, or a version with another API, must not stop a run. With `auto`, the run is then logged offline.
    except Exception:
        return False


def _stored_key(settings: Any) -> str | None:
    """The key that `wandb login` stored in the netrc file."""
    # W&B 0.24 and later have the first of these modules, W&B 0.23 the second, older versions the one below.
    for module in ("wandb.sdk.lib.wbauth", "wandb.sdk.lib.auth"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(module).read_netrc_auth(host=settings.base_url)
    return importlib.import_module("wandb.sdk.lib.apikey").api_key(settings)


def _mode_from_settings_files() -> str:
    """The mode that `wandb offline` or `wandb disabled` stored in W&B's settings files; online if they store none."""
    try:
        with hide_unknown_variables():
            return MODES.get(session_settings().mode, "online")
    # As in has_key, a broken W&B must not stop a run.
    except Exception:
        return "online"


def wanted_mode(run: Run) -> str:
    """Return the mode: online, offline or disabled.

    `disabled` in run.wandb or WANDB_MODE, or a true WANDB_DISABLED, takes precedence. `auto` means WANDB_MODE if it is
    set, otherwise the mode in W&B's settings files, which is online by default; without a key, this online mode becomes
    offline. With `auto`, an invalid WANDB_MODE disables W&B, with a message.
    """
    variable = os.environ.get("WANDB_MODE", "").strip().lower()
    switched_off = os.environ.get("WANDB_DISABLED", "").strip().lower() in ("true", "1", "yes", "on")
    if switched_off or "disabled" in (variable, run.wandb):
        return "disabled"
    if run.wandb != "auto":
        return run.wandb
    if variable and variable not in MODES:
        fix = "use online, offline, dryrun or disabled"
        print(f"W&B: WANDB_MODE {variable!r} is not valid; training continues without W&B; {fix}", file=sys.stderr)
        return "disabled"
    if variable:
        return MODES[variable]
    mode = _mode_from_settings_files()
    return "offline" if mode == "online" and not has_key() else mode


def public_config(config: Config) -> dict[str, Any]:
    """Return the configuration by dotted key, without the keys whose values are paths on this machine."""
    paths = {key for key, value in flatten(config.model_dump()).items() if isinstance(value, Path)}
    return {key: value for key, value in flatten(config.model_dump(mode="json")).items() if key not in paths}


def destination(run: Run) -> dict[str, Any]:
    """Return project, entity and tags for wandb.init: from the configuration, otherwise from the environment."""
    tags = [tag.strip() for tag in os.environ.get("WANDB_TAGS", "").split(",")]
    return {
        "project": run.wandb_project or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT,
        "entity": run.wandb_entity or os.environ.get("WANDB_ENTITY") or None,
        "tags": list(dict.fromkeys(run.wandb_tags or filter(None, tags))) or None,
    }


def init_settings(connect_seconds: float, finish_seconds: float) -> Any:
    """Return wandb.Settings with short timeouts. Nothing about this machine is sent, as its paths may name people."""
    import wandb

    values = {
        "init_timeout": connect_seconds,
        "finish_timeout": finish_seconds,
        "finish_timeout_raises": True,
        "silent": True,
        "console": "off",
        "x_disable_stats": True,
        # This metadata is the command line, the host name, the programs and the packages.
        "x_disable_meta": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
        "disable_git": True,
        "disable_code": True,
        "save_code": False,
    }
    # Older versions of W&B have no finish_timeout.
    return wandb.Settings(**{key: value for key, value in values.items() if key in wandb.Settings.model_fields})
