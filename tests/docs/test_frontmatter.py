"""What clients read before they read the skill."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs.documents import ROOT, SKILL

NAME = "python-async-workers"
STANDARD = {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}
FIELDS = dict(re.findall(r"^([\w-]+):[ ]*(.*)$", SKILL.frontmatter, re.MULTILINE))


def unquoted(field: str) -> str:
    given = str(FIELDS[field])
    assert given.startswith('"'), f"{field}: quote it, a colon or # in it would end it"
    assert given.endswith('"')
    return given[1:-1]


def test_only_keys_of_the_standard() -> None:
    assert set(FIELDS) <= STANDARD
    assert FIELDS["name"] == NAME
    assert FIELDS["license"] == "MIT"


def test_the_description_says_what_when_and_when_not() -> None:
    description = unquoted("description")

    assert len(description) < 1024
    assert not re.search(r"[<>]", description)
    assert re.match(r"[A-Z][a-z]+, ", description), "begin with verbs"
    assert " Use when " in description
    assert " Not for " in description


def test_compatibility_names_the_oldest_that_will_do() -> None:
    compatibility = unquoted("compatibility")

    assert len(compatibility) <= 500
    for needed in ("Python >= 3.11", "PostgreSQL", "Redis >= 6.2"):
        assert needed in compatibility


def test_allowed_tools_are_separated_by_blanks() -> None:
    tools = unquoted("allowed-tools").split(" ")

    assert all(re.fullmatch(r"[A-Z][a-zA-Z]*(\([\w.-]+:\*\))?", tool) for tool in tools), tools


def test_version_is_that_of_the_project() -> None:
    (version,) = re.findall(r'^  version: "(.*)"$', SKILL.frontmatter, re.MULTILINE)

    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text()
    assert manifest("plugin.json")["version"] == version
    # The marketplace names none: clients then take the plugin's own.
    assert "version" not in manifest("marketplace.json")["plugins"][0]


def test_the_validator_of_the_standard_finds_nothing(tmp_path: Path) -> None:
    # Given the folder under the skill's name, as it is installed
    folder = tmp_path / NAME
    folder.mkdir()
    shutil.copy(SKILL.path, folder)
    shutil.copytree(ROOT / "references", folder / "references")

    # Then `agentskills` of the package skills-ref accepts it; where it is missing this fails
    program = Path(sys.executable).with_name("agentskills")
    result = subprocess.run([program, "validate", folder], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Valid skill")


def manifest(name: str) -> Any:
    return json.loads((ROOT / ".claude-plugin" / name).read_text(encoding="utf-8"))


def test_the_plugin_is_this_folder() -> None:
    plugin, marketplace = manifest("plugin.json"), manifest("marketplace.json")
    (entry,) = marketplace["plugins"]

    assert plugin["name"] == entry["name"] == NAME
    assert plugin["description"] == entry["description"]
    assert entry["source"] == "./"
    assert plugin["skills"] == ["./"]
    assert not (ROOT / "skills").exists()


@pytest.mark.parametrize("name", ["plugin.json", "marketplace.json"])
def test_manifests_name_no_host(name: str) -> None:
    assert "://" not in (ROOT / ".claude-plugin" / name).read_text(encoding="utf-8")
