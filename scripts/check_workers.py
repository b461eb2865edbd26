#!/usr/bin/env python3
"""Finds what loses or repeats background work in a FastAPI project, by reading its code.

  check_workers.py PATH
  check_workers.py PATH --format sarif > workers.sarif
  check_workers.py PATH --select celery,RST03 --ignore CEL08
  check_workers.py --explain CEL01
  check_workers.py --rules
  check_workers.py PATH --write-baseline workers.json     old findings, accepted for now
  check_workers.py PATH --baseline workers.json           only new ones

Nothing of the project is imported or run. Tests, migrations and environments are left out. A finding is
accepted by a comment on its line, or alone on the line above; the reason is required:

    redis.xadd("ticks", fields, maxlen=1000)  # worker: ignore[RST04] only the newest ticks are of use

In a GitHub workflow:

    - run: python3 path/to/check_workers.py . --format sarif > workers.sarif
    - uses: github/codeql-action/upload-sarif@v3
      if: always()
      with: {sarif_file: workers.sarif}

As a hook, in .pre-commit-config.yaml, from a clone of the skill:

    - repo: local
      hooks:
        - {id: check-workers, name: check workers, language: system, pass_filenames: false,
           types_or: [python, dockerfile, yaml], entry: python3 path/to/check_workers.py .}

Exit codes: 0 nothing found; 1 findings; 2 wrong command line; 3 the path cannot be read. Findings go to
stdout, remarks to stderr.
"""

from __future__ import annotations

import argparse
import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036  # the next imports would only say "invalid syntax"
    sys.stderr.write("check_workers.py: needs Python 3.11 or newer\n")
    sys.exit(2)

from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # python -P and -I leave it out

from checkkit import output
from checkkit.errors import EXIT_CLEAN, EXIT_FINDINGS, CheckError, UsageError
from checkkit.reader import Report
from checkkit.rule import GROUPS, rules
from checkkit.run import check
from checkkit.suppress import fingerprints, read_baseline, write_baseline

FORMATS = {"text": output.as_text, "json": output.as_json, "sarif": output.as_sarif}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    args = parser().parse_args(argv)
    try:
        return run(args)
    except CheckError as error:
        sys.stderr.write(f"check_workers.py: {error}\n")
        return error.exit_code
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FINDINGS


def run(args: argparse.Namespace) -> int:
    """Show rules, or check a project."""
    if args.rules:
        print(output.rules_as_json() if args.format == "json" else output.rule_table())
        return EXIT_CLEAN
    if args.explain:
        print(output.explained(rules()[chosen([args.explain]).pop()]))
        return EXIT_CLEAN
    wanted = (chosen(args.select) if args.select else set(rules())) - chosen(args.ignore)
    known = read_baseline(args.baseline) if args.baseline else frozenset()
    report = check(args.path.absolute(), tuple(args.exclude))
    report.found = [one for one in report.found if one.rule in wanted]
    if report.newer:
        sys.stderr.write(f"note: {report.newer} files were not checked: run this with the project's Python\n")
    if args.write_baseline:
        return noted(report, args.write_baseline)
    report.found = [one for one, key in fingerprints(report.found) if key not in known]
    print(FORMATS[args.format](report))
    return EXIT_FINDINGS if report.found else EXIT_CLEAN


def noted(report: Report, path: Path) -> int:
    """Write the baseline."""
    write_baseline(path, report.found)
    sys.stderr.write(f"note: {len(report.found)} findings noted in {path}\n")
    return EXIT_CLEAN


def chosen(given: Sequence[str]) -> set[str]:
    """The ids of rules and groups, separated by commas. Raises UsageError."""
    ids: set[str] = set()
    for name in (part.strip() for one in given for part in one.split(",")):
        if name in GROUPS:
            ids.update(rule.id for rule in rules().values() if rule.group == name)
        elif name.upper() in rules():
            ids.add(name.upper())
        else:
            raise UsageError(f"{name}: no such rule; --rules shows all")
    return ids


def parser() -> argparse.ArgumentParser:
    """The command line."""
    usage, _, epilog = (__doc__ or "").partition("\n\n")
    whole = argparse.ArgumentParser(
        description=usage, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole.add_argument(
        "path", nargs="?", type=Path, default=Path(), help="folder or file; default: this folder"
    )
    whole.add_argument("--format", choices=FORMATS, default="text")
    whole.add_argument("--select", action="append", default=[], metavar="RULES", help="rules or groups only")
    whole.add_argument("--ignore", action="append", default=[], metavar="RULES", help="rules or groups not")
    whole.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="files or folders not")
    whole.add_argument("--baseline", type=Path, metavar="FILE", help="leave out what is noted in it")
    whole.add_argument("--write-baseline", type=Path, metavar="FILE", help="note what is found now; exit 0")
    whole.add_argument("--rules", action="store_true", help="list the rules")
    whole.add_argument("--explain", metavar="RULE", help="one rule with an example of wrong and right")
    return whole


if __name__ == "__main__":
    sys.exit(main())
