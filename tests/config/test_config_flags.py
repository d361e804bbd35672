"""flags.json against the schema."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from maskfold.config import config_flags as flags
from maskfold.config import flag_record
from maskfold.config.config_flags import config_flags
from maskfold.config.flag_record import FLAGS_FILE, SCHEMA_MODULES
from maskfold.config.schema_flags import flags_of_schema, schema_fields, write_flags


@pytest.fixture
def uncached():
    """Reads the flags anew, and once more after the test."""
    config_flags.cache_clear()
    yield
    config_flags.cache_clear()


def test_the_file_is_up_to_date(tmp_path):
    write_flags(tmp_path / "flags.json")
    assert FLAGS_FILE.read_text() == (tmp_path / "flags.json").read_text(), "run make docs"


def test_the_file_has_the_flags_of_the_schema(monkeypatch, uncached):
    from_schema = flags_of_schema()
    monkeypatch.setattr("maskfold.config.schema_flags.flags_of_schema", lambda: pytest.fail("the file was not used"))
    assert config_flags() == from_schema
    assert [flag.key for flag in from_schema] == list(schema_fields())


@pytest.mark.parametrize("changed", [module.name for module in SCHEMA_MODULES])
def test_a_changed_schema_is_noticed(tmp_path, monkeypatch, uncached, changed):
    modules = [Path(shutil.copy(module, tmp_path)) for module in SCHEMA_MODULES]
    monkeypatch.setattr(flag_record, "SCHEMA_MODULES", modules)
    monkeypatch.setattr("maskfold.config.schema_flags.flags_of_schema", lambda: ["of the schema"])
    assert config_flags() != ["of the schema"]
    config_flags.cache_clear()
    with (tmp_path / changed).open("a") as module:
        module.write("# changed\n")
    assert config_flags() == ["of the schema"]


def test_a_missing_file_costs_only_time(tmp_path, monkeypatch, uncached):
    monkeypatch.setattr(flags, "FLAGS_FILE", tmp_path / "flags.json")
    assert config_flags() == flags_of_schema()


@pytest.mark.parametrize("verb", sorted(path.stem for path in (ROOT / "scripts").glob("*.py")))
def test_help_does_not_import_the_schema(verb):
    code = f"import sys; sys.argv = ['x.py', '--help']\nfrom maskfold.commands.{verb} import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass\nassert 'pydantic' not in sys.modules, 'pydantic'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout
