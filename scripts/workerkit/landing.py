"""The tests that land with a worker, as they read in the project."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from workerkit.brokers import Broker
from workerkit.imports import wrapped
from workerkit.kinds import TEST_SUPPORT, Kind, last
from workerkit.plan import Target
from workerkit.project import Project
from workerkit.source import Function, Module
from workerkit.templates import TEMPLATES, replaced, rewritten, text_of

FOLDER = "workers"
CONFTEST = "conftest.py"
AT_ONCE = re.compile(r"^def test_same_message_in_two_workers_at_once.*?(?=^def )", re.MULTILINE | re.DOTALL)
PROJECT_LINE = "PROJECT = Path(__file__).resolve().parents[2]"
IMPORT_ROOT_LINE = "IMPORT_ROOT = PROJECT"
VARIABLE_LINE = 'DATABASE_VARIABLE = "{}"'
DATABASE_VARIABLE = "DATABASE_URL"
# What one file of the support wants of another.
ENTRY = {"replica.py": "main", "lab.py": "Lab", "samples.py": "of"}


def test(
    project: Project, kind: Kind, broker: Broker, name: str, words: Mapping[str, str], *, alone: bool
) -> Target:
    """The worker's test, in which `words` are replaced. `alone`: no other works beside it."""
    text = worker_test(project, kind, broker, name, words)
    if alone:
        text = AT_ONCE.sub("", text)
    return Target(project.tests / FOLDER / test_name(kind, name), text, "test")


def supports(
    project: Project, kind: Kind, broker: Broker, name: str, words: Mapping[str, str]
) -> Iterator[Target]:
    """The support that all tests share, as far as the worker's test needs it."""
    test = worker_test(project, kind, broker, name, words)
    for path in (*TEST_SUPPORT, *kind.test_support, *broker.test_support):
        text = support(project, text_of(f"tests/{path}"))
        file = path.rpartition("/")[2]
        entry = frozenset({ENTRY.get(file, "start")})
        needed = fixtures_of(test) if file == CONFTEST else entry
        yield Target(project.tests / path, text, "test", needed)


def test_name(kind: Kind, name: str) -> str:
    """The file of a worker's test; a consumer, a cron job and a task may share a name."""
    return f"test_{prefix(kind)}_{name}.py"


def prefix(kind: Kind) -> str:
    """What tests of a kind are named by."""
    if kind.is_llm_job:
        return "llm"
    return "cron" if kind.is_cron_job else "job" if kind.is_tracked else "task" if kind.is_task else "worker"


def worker_test(project: Project, kind: Kind, broker: Broker, name: str, words: Mapping[str, str]) -> str:
    """The test of one worker."""
    text = text_of(f"tests/{FOLDER}/{test_name(kind, last(kind.worker))}")
    if kind.example is None:
        return rewritten(replaced(text, broker.test_words), project.package)
    return replaced(text, {kind.example.name: name, **words, **broker.test_words})


def support(project: Project, text: str) -> str:
    """The shared support: it knows where the project and its package are."""
    up = len((project.tests / FOLDER).relative_to(project.root).parts)
    text = text.replace(PROJECT_LINE, f"PROJECT = Path(__file__).resolve().parents[{up}]")
    below = project.import_root.relative_to(project.root).parts
    path = " / ".join(["PROJECT", *(f'"{part}"' for part in below)])
    text = text.replace(f"{IMPORT_ROOT_LINE}\n", f"IMPORT_ROOT = {path}\n")
    if project.database_variable:
        known = VARIABLE_LINE.format(DATABASE_VARIABLE)
        text = text.replace(known, VARIABLE_LINE.format(project.database_variable))
    return wrapped(rewritten(text, project.package), project.line_length)


def fixtures_of(test: str) -> frozenset[str]:
    """The fixtures that a test file asks for and does not define itself."""
    module = Module("test", TEMPLATES, test)
    functions = [node for node in ast.walk(module.tree) if isinstance(node, Function)]
    asked = {argument.arg for node in functions for argument in node.args.args}
    builtin = {"self", "request", "tmp_path", "monkeypatch", "capsys", "record_property"}
    return frozenset(asked - builtin - module.top_level.keys())


def shown(project: Project) -> str:
    """The folder of the landed tests, as a command names it."""
    return f"{project.shown(project.tests)}/{FOLDER}"
