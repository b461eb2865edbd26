"""What an upgrade did, for people and for programs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from workerkit.report import as_json
from workerkit.upgrade import Upgrade
from workerkit.upgrade_advice import left_to_do, remarks


def upgraded(upgrade: Upgrade, *, dry_run: bool, format_: str) -> str:
    """The report."""
    found = facts(upgrade, dry_run=dry_run)
    return as_json(found) if format_ == "json" else text(found)


def facts(upgrade: Upgrade, *, dry_run: bool) -> dict[str, Any]:
    """All that the report says."""
    project = upgrade.project
    return {
        "version": upgrade.version,
        "dry_run": dry_run,
        "changed": any(change.writes for change in upgrade.changes),
        "files": [
            {
                "path": project.shown(change.target.path),
                "role": change.target.role,
                "state": change.state,
                "lines": change.lines,
                "diff": change.diff(project) if change.writes else None,
            }
            for change in upgrade.changes
        ],
        "conflicts": upgrade.conflicts,
        "gone": upgrade.gone,
        "todo": list(left_to_do(upgrade)),
        "remarks": list(remarks(upgrade)),
        "prove": upgrade.prove,
    }


def text(found: dict[str, Any]) -> str:
    """The report for people; on a dry run with all that would change."""
    written = [file for file in found["files"] if file["diff"] is not None]
    if not written:
        lines = [f"nothing to write: {len(found['files'])} files"]
    else:
        lines = ["would write" if found["dry_run"] else "wrote"]
        lines += [f"  {file['path']:<58} {file['state']}" for file in written]
        counts = Counter(file["state"] for file in written)
        shown = ", ".join(f"{state} {count}" for state, count in counts.items())
        rest = len(found["files"]) - len(written)
        lines.append(f"  {len(written)} files: {shown}; {rest} files stay as they are")
    if found["dry_run"]:
        lines += [file["diff"].rstrip() for file in written]
    if found["todo"]:
        lines += ["", "left to do", *(f"  - {step}" for step in found["todo"])]
    return "\n".join([*lines, "", f"prove  {found['prove']}"])
