"""Code and commands in the documents are those of the project."""

import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from celery.bin.worker import worker as celery_worker

import add_worker
from app.core import celery_app, health
from app.workers import cron, dead_letters, run
from docs.documents import ALL, GAP, README, ROOT, RUNTIME, SKILL, Document, one_line, table_rows
from workerkit.kinds import KINDS

SOURCES = ("templates", "examples/shop")
SCRIPT = ROOT / "scripts" / "add_worker.py"
CHECK = ROOT / "scripts" / "check_workers.py"
PYTHON = [(d, f.text) for d in ALL for f in d.fences if f.language == "python"]
BASH = [(d, line) for d in ALL for f in d.fences if f.language == "bash" for line in f.commands]
ADDING = [(document, line) for document, line in BASH if "add_worker.py" in line]
RUNNING = [(d, line) for d, line in BASH if "add_worker.py" not in line] + [
    (d, line) for d in ALL for line in re.findall(r"`((?:python -m app\.|celery -A )[^`]+)`", d.prose)
]


def ids(value: object) -> str:
    return value.name if isinstance(value, Document) else one_line(str(value))[:40]


@cache
def sources() -> dict[str, list[str]]:
    """The lines of all templates, white space normalised, without empty ones."""
    paths = [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]
    return {str(path): lines_of(path.read_text(encoding="utf-8")) for path in paths}


def lines_of(text: str) -> list[str]:
    return [one_line(line) for line in text.splitlines() if line.strip()]


def is_excerpt(excerpt: str, lines: list[str]) -> bool:
    """Whether the lines hold the excerpt's pieces, which gaps separate, in their order."""
    start = 0
    for piece in re.split(rf"^\s*{GAP}\s*$", excerpt, flags=re.MULTILINE):
        wanted = lines_of(piece)
        places = range(start, len(lines) - len(wanted) + 1)
        place = next((p for p in places if lines[p : p + len(wanted)] == wanted), None)
        if place is None:
            return False
        start = place + len(wanted)
    return True


def test_excerpts_are_told_from_inventions() -> None:
    lines = ["a = 1", "b = 2", "c = 3"]
    assert is_excerpt(f"a  =  1\n{GAP}\nc = 3\n", lines)
    assert not is_excerpt("a = 1\nc = 3\n", lines)
    assert not is_excerpt(f"c = 3\n{GAP}\na = 1\n", lines)


@pytest.mark.parametrize(("document", "code"), PYTHON, ids=ids)
def test_python_is_an_excerpt_of_a_template(document: Document, code: str) -> None:
    assert any(is_excerpt(code, lines) for lines in sources().values()), f"{document.name}:\n{code}"


def test_blocks_have_a_language_that_is_checked() -> None:
    for document in RUNTIME:
        assert {fence.language for fence in document.fences} <= {"python", "bash", "sql", "text"}


@pytest.mark.parametrize(("document", "line"), ADDING, ids=ids)
def test_commands_of_the_script_work(document: Document, line: str, tmp_path: Path) -> None:
    # Given a copy of the shop
    shutil.copytree(
        ROOT / "examples" / "shop", tmp_path / "shop", ignore=shutil.ignore_patterns("__pycache__")
    )
    python, script, *arguments = shlex.split(line.replace("$PROJECT", str(tmp_path / "shop")))
    assert (python, script) == ("python3", "scripts/add_worker.py"), document.name

    # Then the command as it stands in the document is accepted
    if arguments[0] in KINDS and "--dry-run" not in arguments:
        arguments.append("--dry-run")
    command: list[str | Path] = [sys.executable, SCRIPT, *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@cache
def help_of_the_scripts() -> str:
    """What the scripts and their subcommands say for --help."""
    words = ("redis-consumer", "cron-job", "celery-task", "llm-job", "inspect", "list", "upgrade")
    commands = [[str(CHECK)], [str(SCRIPT)], *([str(SCRIPT), word] for word in words)]
    return "".join(
        subprocess.run(
            [sys.executable, *command, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for command in commands
    )


@pytest.mark.parametrize("document", ALL, ids=ids)
def test_subcommands_and_options_are_those_of_the_script(document: Document) -> None:
    named = re.findall(r"(?:`|python3 )(?:scripts/)?add_worker\.py ([\w-]+)", document.text)
    assert set(named) <= {*KINDS, "inspect", "list", "diff", "upgrade", "KIND"}
    help_ = help_of_the_scripts()
    for option in re.findall(r"`(--[a-z-]+)", document.prose):
        assert option in help_, option


def test_kinds_are_those_of_the_script() -> None:
    told = {row[0].strip("`"): row[1] for row in table_rows(README.section("What there is"))}
    assert told == {kind.name: kind.summary for kind in KINDS.values()}
    choices = [row[1] for row in table_rows(SKILL.section("Choose"))]
    chosen = {choice.strip("`") for choice in choices if not choice.startswith("none: ")}
    assert chosen - {"both"} == set(KINDS)


def test_parser_knows_what_the_procedure_uses() -> None:
    for _, line in ADDING:
        add_worker.parser().parse_args(shlex.split(line)[2:])


@pytest.mark.parametrize("document", ALL, ids=ids)
def test_modules_that_are_run_or_named_exist(document: Document) -> None:
    for module in re.findall(r"(?:python -m |`)(app(?:\.\w+){2,})", document.text):
        path = Path(*module.split(".")).with_suffix(".py")
        assert any((ROOT / folder / path).is_file() for folder in SOURCES), module


@pytest.mark.parametrize("document", RUNTIME, ids=ids)
def test_files_of_the_package_exist(document: Document) -> None:
    for name in re.findall(r"`(?:app/)?((?:core|models|schemas|tests)/[\w/]*\.py)`", document.text):
        roots = [ROOT / "templates", *(ROOT / folder / "app" for folder in SOURCES)]
        assert any((root / name).is_file() for root in roots), name


@pytest.mark.parametrize(("document", "line"), RUNNING, ids=ids)
def test_commands_of_the_workers_are_understood(document: Document, line: str) -> None:
    # What they do is tested elsewhere; here each is read by the program that it calls.
    python, *words = (word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=\S+", word))
    if python == "celery":
        assert words[:3] == ["-A", celery_app.__name__, "worker"]
        known = {option for parameter in celery_worker.params for option in parameter.opts}
        assert {word for word in words[3:] if word.startswith("-")} <= known
        return
    assert (python, words[0]) == ("python", "-m"), document.name
    module, arguments = words[1], words[2:]
    match module:
        case "app.workers.run":
            assert set(arguments) <= {name for name, _ in run.available()}
        case "app.workers.dead_letters":
            dead_letters.parsed(arguments)
        case "app.workers.cron":
            cron.parser().parse_args(arguments)
        case "app.core.health":
            assert arguments in (["live"], ["ready"]), health.__doc__
        case _:
            pytest.fail(f"{document.name}: what reads {module}?")
