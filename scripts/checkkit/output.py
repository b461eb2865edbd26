"""Findings as text, JSON and SARIF 2.1; rules as a table or one in full."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from urllib.parse import quote

from checkkit.reader import Report
from checkkit.rule import SEVERITIES, Rule, rules
from checkkit.suppress import fingerprints

LEVELS = {"error": "error", "warning": "warning", "hint": "note"}
SARIF = "https://json.schemastore.org/sarif-2.1.0.json"
PLACES = 20


def as_text(report: Report) -> str:
    """Grouped by rule, the gravest first: why and the fix once, then the places with their lines."""
    known = rules()
    order = sorted({f.rule for f in report.found}, key=lambda i: (SEVERITIES.index(known[i].severity), i))
    blocks = [block(known[id_], report) for id_ in order]
    return "\n".join([*blocks, summary(report)])


def block(rule: Rule, report: Report) -> str:
    """One rule's findings."""
    here = [one for one in report.found if one.rule == rule.id]
    lines = [f"{rule.severity} {rule.id}: {rule.title}", f"  why: {rule.why}", f"  fix: {rule.fix}"]
    lines.append(f"  see: {rule.link}")
    for one in here[:PLACES]:
        lines.append(f"  {one.path}:{one.line}:{one.column}  {one.source}"[:200].rstrip())
        if one.message:
            lines.append(f"      {one.message}")
    if len(here) > PLACES:
        lines.append(f"  and {len(here) - PLACES} more: --select {rule.id} --format json shows all")
    return "\n".join(lines) + "\n"


def summary(report: Report) -> str:
    """How much was found in how much."""
    known = rules()
    counts = Counter(known[one.rule].severity for one in report.found)
    told = ", ".join(f"{counts[s]} {s}{'' if counts[s] == 1 else 's'}" for s in SEVERITIES if counts[s])
    return f"{told or 'nothing found'} in {report.files} files, {report.lines} lines"


def as_json(report: Report) -> str:
    """A list of findings with the texts of their rules."""
    known = rules()
    found = [
        {
            "rule": one.rule,
            "severity": known[one.rule].severity,
            "path": one.path,
            "line": one.line,
            "column": one.column,
            "message": one.message or known[one.rule].title,
            "source": one.source,
            "why": known[one.rule].why,
            "fix": known[one.rule].fix,
            "link": known[one.rule].link,
            "fingerprint": fingerprint,
        }
        for one, fingerprint in fingerprints(report.found)
    ]
    return json.dumps({"findings": found, "files": report.files, "lines": report.lines}, indent=2)


def as_sarif(report: Report) -> str:
    """What code hosts show beside the lines."""
    known = rules()
    used = sorted({one.rule for one in report.found})
    results = [
        {
            "ruleId": one.rule,
            "ruleIndex": used.index(one.rule),
            "level": LEVELS[known[one.rule].severity],
            "message": {"text": f"{one.message or known[one.rule].title}. {known[one.rule].fix}"},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": quote(one.path), "uriBaseId": "%SRCROOT%"},
                        "region": {"startLine": one.line, "startColumn": one.column},
                    }
                }
            ],
            "partialFingerprints": {"worker/v1": fingerprint},
        }
        for one, fingerprint in fingerprints(report.found)
    ]
    driver = {"name": "check_workers", "rules": [sarif_rule(known[id_]) for id_ in used]}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": SARIF, "version": "2.1.0", "runs": [run]}, indent=2)


def sarif_rule(rule: Rule) -> dict[str, Any]:
    """A rule in SARIF."""
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": f"{rule.fix} See {rule.link}."},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
        "properties": {"tags": [rule.group]},
    }


def rule_table() -> str:
    """All rules, one line each."""
    return "\n".join(f"{r.id:7} {r.severity:8} {r.group:10} {r.title}" for r in rules().values())


def rules_as_json() -> str:
    """All rules in full."""
    return json.dumps([vars(rule) for rule in rules().values()], indent=2)


def explained(rule: Rule) -> str:
    """One rule in full."""
    versions = f"versions: {rule.versions}\n" if rule.versions else ""
    return (
        f"{rule.id} ({rule.severity}, {rule.group}): {rule.title}\n\nwhy: {rule.why}\nfix: {rule.fix}\n"
        f"{versions}see: {rule.link}\n\nbad:\n{indented(rule.bad)}\n\ngood:\n{indented(rule.good)}"
    )


def indented(text: str) -> str:
    """A program, moved to the right."""
    return "\n".join(f"    {line}".rstrip() for line in text.strip("\n").split("\n"))
