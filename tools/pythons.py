"""Runs the fast tests on each Python of this machine, with the lowest and the newest packages.

    python -m tools.pythons                     every Python >= 3.11 that is found
    python -m tools.pythons --lowest            only with the lowest versions (or --newest)
    python -m tools.pythons --python /usr/bin/python3.13

Environments go into .venv-pythons/ and are kept. The table goes to stdout. Exit codes: 0 all passed, 1 not.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / ".venv-pythons"
OLDEST = (3, 11)
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
# What the templates import: the versions to tell of.
TOLD = ("fastapi", "sqlalchemy", "celery", "aio-pika", "redis", "apscheduler")


@dataclass(frozen=True)
class Result:
    """What came of one Python and one set of packages; `outcome` is pytest's last line, or an error."""

    python: str
    packages: str
    versions: dict[str, str]
    outcome: str
    passed: bool


def main() -> int:
    """Run all; the exit code."""
    arguments = command_line().parse_args()
    chosen = [name for name in RESOLUTIONS if getattr(arguments, name)] or list(RESOLUTIONS)
    pythons = arguments.python or list(found())
    results = [attempt(python, packages) for python in pythons for packages in chosen]
    print(table(results))
    return 0 if results and all(result.passed for result in results) else 1


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.pythons",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in RESOLUTIONS:
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--python", action="append", type=Path, metavar="PROGRAM")
    return parser


def found() -> Iterator[Path]:
    """One interpreter for each version that is new enough: on the PATH, of pyenv, or of uv."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    homes = [Path.home() / ".pyenv" / "versions", Path.home() / ".local" / "share" / "uv" / "python"]
    folders += [path / "bin" for home in homes if home.is_dir() for path in sorted(home.iterdir())]
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        for path in sorted(folder.glob("python3.[0-9]*")):
            version = version_of(path) if re.fullmatch(r"python3\.\d+", path.name) else None
            if version and version >= OLDEST and version not in seen:
                seen.add(version)
                yield path


def version_of(python: Path) -> tuple[int, int] | None:
    """Major and minor version; None where it does not run (pyenv's shims) or is one without SSL."""
    code = "import ssl, sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    numbers = done.stdout.split()
    return (int(numbers[0]), int(numbers[1])) if done.returncode == 0 and len(numbers) == 2 else None


def attempt(python: Path, packages: str) -> Result:
    """Make the environment and run the fast tests in it."""
    version = ".".join(map(str, version_of(python) or ("?",)))
    environment = ENVIRONMENTS / f"{version}-{packages}"
    sys.stderr.write(f"== Python {version}, {packages} versions\n")
    try:
        pins = install(python, environment, version, packages)
    except subprocess.CalledProcessError as error:
        sys.stderr.write(error.stderr)
        return Result(version, packages, {}, last_line(error.stderr), passed=False)
    began = time.monotonic()
    tests = [
        str(environment / "bin" / "python"),
        "-m",
        "pytest",
        "-m",
        "fast",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(tests, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout)
    sys.stderr.write(f"   {time.monotonic() - began:.0f} s\n")
    summary = re.findall(r"^(\d+ .+?) in [\d.]+s", done.stdout, re.MULTILINE)
    return Result(version, packages, pins, summary[-1] if summary else "no end", done.returncode == 0)


def install(python: Path, environment: Path, version: str, packages: str) -> dict[str, str]:
    """Pin the group `dev` and install it; the versions of what the templates import.

    Raises subprocess.CalledProcessError.
    """
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    pins = environment.with_suffix(".txt")
    ENVIRONMENTS.mkdir(exist_ok=True)
    if not (environment / "bin" / "python").exists():
        run(str(python), "-m", "venv", "--without-pip", str(environment))
    resolution = ["--resolution", RESOLUTIONS[packages], "--python-version", version, "--upgrade"]
    run(uv, "pip", "compile", "--quiet", *resolution, "--group", "dev", "--output-file", str(pins))
    run(uv, "pip", "sync", "--quiet", "--python", str(environment / "bin" / "python"), str(pins))
    versions = dict(re.findall(r"^([\w-]+)==([\w.]+)", pins.read_text(), re.MULTILINE))
    return {name: versions[name] for name in TOLD}


def run(*command: str) -> None:
    """Run in the project; what it says is kept for the error."""
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def table(results: list[Result]) -> str:
    """The results for the documents."""
    heads = ["Python", "packages", *TOLD, "fast tests"]
    rows = [heads, ["---"] * len(heads)]
    for result in results:
        versions = [result.versions.get(name, "-") for name in TOLD]
        rows.append([result.python, result.packages, *versions, result.outcome])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
