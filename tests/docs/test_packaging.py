"""The archive, opened as a client does; the version, in one place; the notes of a release."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from docs.documents import README, ROOT, SKILL
from tools import archive, release

FEW_BYTES = 2_000_000


def project(folder: Path, version: str, changes: str) -> Path:
    """A project of the files that a release reads and writes."""
    for name in [*archive.SHIPPED, *release.COPIES]:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            target.mkdir()
        else:
            shutil.copy(source, target)
    skill = folder / "SKILL.md"
    skill.write_text(skill.read_text().replace(f'"{release.version_of()}"', f'"{version}"'))
    (folder / "CHANGELOG.md").write_text(changes)
    return folder


def test_the_archive_holds_the_skill_and_nothing_else(tmp_path: Path) -> None:
    path = archive.build(tmp_path)

    with zipfile.ZipFile(path) as opened:
        assert opened.testzip() is None
        names = opened.namelist()
        opened.extractall(tmp_path)
    skill = tmp_path / archive.NAME
    assert {name.split("/")[0] for name in names} == {skill.name}
    assert {name.split("/")[1] for name in names} == set(archive.SHIPPED)
    for file in skill.rglob("*.*"):
        assert file.read_bytes() == (ROOT / file.relative_to(skill)).read_bytes()
        assert file.suffix in {
            ".md",
            ".py",
            ".toml",
            ".ini",
            ".mako",
            ".yaml",
            ".yml",
            ".service",
            ".html",
            ".js",
            ".mjs",
            "",
        }, file
    assert path.stat().st_size < FEW_BYTES


def test_what_the_skill_links_to_is_in_the_archive(tmp_path: Path) -> None:
    names = zipfile.ZipFile(archive.build(tmp_path)).namelist()

    assert SKILL.links
    for link in SKILL.links:
        assert f"{archive.NAME}/{link.partition('#')[0]}" in names
    assert f"{archive.NAME}/{README.name}" not in names


def test_the_validator_accepts_the_opened_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(archive.build(tmp_path)) as opened:
        opened.extractall(tmp_path)

    program = Path(sys.executable).with_name("agentskills")
    command = [str(program), "validate", str(tmp_path / archive.NAME)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_archive_is_the_same_each_time(tmp_path: Path) -> None:
    assert archive.build(tmp_path / "one").read_bytes() == archive.build(tmp_path / "two").read_bytes()


def test_a_release_stamps_the_version_and_takes_the_notes(tmp_path: Path) -> None:
    # Given a version in SKILL.md, and its section among others
    sections = ("## [Unreleased]", "## [7.8.9] - 2026-11-22", "- New.", "## [7.8.8] - 2026-11-01", "- Old.")
    root = project(tmp_path / "project", "7.8.9", "\n\n".join(["# Changelog", *sections]))

    assert release.main(tmp_path / "dist", root) == 0

    # Then every file that names the version names this one
    assert (tmp_path / "dist" / "RELEASE.md").read_text() == "- New.\n"
    for name in release.COPIES:
        assert '"7.8.9"' in (root / name).read_text()
    assert (tmp_path / "dist" / f"{archive.NAME}.skill").is_file()


def test_a_release_without_notes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = project(tmp_path / "project", "7.8.9", "# Changelog\n\n## [Unreleased]\n\n- New.\n")

    assert release.main(tmp_path / "dist", root) == 1
    assert "no section `## [7.8.9] - YYYY-MM-DD`" in capsys.readouterr().err
    assert not (tmp_path / "dist").exists()
    assert '"7.8.9"' not in (root / "pyproject.toml").read_text()
