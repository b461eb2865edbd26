"""Prepares a release. The version stands in SKILL.md (metadata.version) and is copied from there.

    python -m tools.release FOLDER     version, FOLDER/RELEASE.md and the archive

Exit codes: 0 done, 1 CHANGELOG.md has no section of this version.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tools.archive import ROOT, build

VERSION = re.compile(r'^  version: "([^"]+)"$', re.MULTILINE)
COPIES = {
    "pyproject.toml": re.compile(r'(?<=^version = ")[^"]+', re.MULTILINE),
    ".claude-plugin/plugin.json": re.compile(r'(?<="version": ")[^"]+'),
}


class NoNotesError(Exception):
    """CHANGELOG.md has no section of the version: rename its section Unreleased, with the date."""


def version_of(root: Path = ROOT) -> str:
    """The version that SKILL.md names."""
    (version,) = VERSION.findall((root / "SKILL.md").read_text(encoding="utf-8"))
    return str(version)


def stamp(root: Path = ROOT) -> None:
    """Write the version of SKILL.md into the other files that name it."""
    version = version_of(root)
    for name, place in COPIES.items():
        path = root / name
        path.write_text(place.sub(version, path.read_text(encoding="utf-8"), count=1), encoding="utf-8")


def notes(root: Path = ROOT) -> str:
    """What CHANGELOG.md says of the version.

    Raises NoNotesError.
    """
    version = version_of(root)
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n"
    found = re.search(rf"{heading}(.*?)(?=^## |\Z)", changes, re.DOTALL | re.MULTILINE)
    if found is None:
        raise NoNotesError(f"CHANGELOG.md has no section `## [{version}] - YYYY-MM-DD`")
    return found[1].strip() + "\n"


def main(folder: Path, root: Path = ROOT) -> int:
    """Prepare the release; the exit code."""
    try:
        text = notes(root)
    except NoNotesError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    stamp(root)
    archive = build(folder, root)
    (folder / "RELEASE.md").write_text(text, encoding="utf-8")
    print(f"{version_of(root)}: {archive}, {folder / 'RELEASE.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
