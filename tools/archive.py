"""Builds the skill as one file: a zip with one folder, which is what clients call a .skill file.

    python -m tools.archive FOLDER     writes FOLDER/python-async-workers.skill

The same files give the same bytes on any machine and day, so that building it again checks a release.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "python-async-workers"
# What an agent, the scripts and whoever upgrades need; the rest is for those who change the skill.
SHIPPED = ("SKILL.md", "LICENSE", "CHANGELOG.md", "references", "scripts", "templates", "examples")
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first time that a zip can hold
READABLE = 0o644 << 16


def shipped(root: Path = ROOT) -> Iterator[Path]:
    """The files of the archive, relative to `root`, sorted; nothing that runs and checks leave behind."""
    for name in sorted(SHIPPED):
        path = root / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            relative = file.relative_to(root)
            if file.is_file() and not any(part.startswith(("_", ".")) for part in relative.parts):
                yield relative


def build(folder: Path, root: Path = ROOT) -> Path:
    """Write the archive into `folder`; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{NAME}.skill"
    with zipfile.ZipFile(target, "w") as archive:
        for file in shipped(root):
            entry = zipfile.ZipInfo(f"{NAME}/{file.as_posix()}", EARLIEST)
            entry.external_attr = READABLE
            archive.writestr(entry, (root / file).read_bytes(), zipfile.ZIP_DEFLATED)
    return target


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
