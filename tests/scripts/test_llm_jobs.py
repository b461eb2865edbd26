"""LLM jobs that add_worker.py adds: their files, their text, and what is refused."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workerkit.brokers import LLM
from workerkit.record import NAME as RECORD

Script = Callable[..., Any]
Tree = Callable[[Path], dict[str, str]]
TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
USAGE, SERVICE, TAKEN = 2, 4, 5
TYPE = ("--type", "shop.document.summarise.v1")
HEAD = "from datetime import date\n\nfrom sqlalchemy.ext.asyncio import AsyncSession\n\n\n"
BOTH = (
    HEAD
    + """class Made:
    def __init__(self, session: AsyncSession) -> None: ...
    async def ask(self, day: date, tone: str = "dry") -> str: ...
    async def keep(self, day: date, text: str, *, places: int = 2, idempotency_key: str) -> None: ...
    async def keep_two(self, day: date, text: str, other: str) -> None: ...
    async def keep_none(self, day: date) -> None: ...
    async def keep_bytes(self, day: date, text: bytes) -> None: ...
    async def keep_other(self, day: str, text: str) -> None: ...
    async def ask_much(self, day: date) -> list[str]: ...
"""
)


def test_first_llm_job_brings_worker_tables_and_tests(shop: Path, add_llm: Script, tree: Tree) -> None:
    before = tree(shop)

    added = add_llm(shop, *TYPE)

    assert added.code == 0, added.err
    after = tree(shop)
    new = after.keys() - before.keys()
    assert {name: after[name] for name in before} == before
    assert {
        "app/llm/summarise_document.py",
        "app/core/llm_call.py",
        "app/core/llm_http.py",
        "app/core/job_worker.py",
        "app/models/job_event.py",
        "app/workers/dead_letters.py",
        "app/workers/llm_jobs.py",
        "tests/workers/conftest.py",
        "tests/workers/llm_lab.py",
        "tests/workers/llm_kit.py",
        "tests/workers/test_llm_summarise_document.py",
    } <= new
    migrations = sorted(name for name in new if name.startswith("migrations/"))
    tables = [re.sub(r".*/\d{8}_\d{4}_(.*)\.py", r"\1", name) for name in migrations]
    assert tables == ["job", "job_event", "llm_spend", "dead_letter"]
    foreign = ("cron_", "stream_", "rabbit", "celery", "webhook", "outbox", "inbox", "dispatcher", "api/")
    assert [name for name in new for word in foreign if word in name] == []


def test_the_job_of_the_templates_is_what_the_script_writes(shop: Path, add_llm: Script) -> None:
    add_llm(shop, *TYPE)

    for name in ("app/llm/summarise_document.py", "tests/workers/test_llm_summarise_document.py"):
        assert (shop / name).read_text() == (TEMPLATES / name).read_text()


def test_one_that_is_asked_in_batches_brings_what_makes_them(
    shop: Path, add_llm: Script, script: Script, tree: Tree
) -> None:
    add_llm(shop)
    before = tree(shop)

    type_ = ("--type", "shop.document.summarise.overnight.v1")
    added = add_llm(shop, "--batch", *type_, "--format", "json", name="summarise_overnight")

    assert added.code == 0, added.err
    after = tree(shop)
    assert {name: after[name] for name in before if name != RECORD} == {
        name: text for name, text in before.items() if name != RECORD
    }
    new = sorted(re.sub(r"\d{8}_\d{4}_", "", name) for name in after.keys() - before.keys())
    assert new == [
        "app/core/llm_batch.py",
        "app/core/llm_batch_anthropic.py",
        "app/core/llm_batch_http.py",
        "app/core/llm_batch_openai.py",
        "app/core/llm_batch_provider.py",
        "app/core/llm_batch_settings.py",
        "app/core/llm_batch_store.py",
        "app/core/llm_batch_worker.py",
        "app/core/llm_batches.py",
        "app/llm/summarise_overnight.py",
        "app/models/llm_batch.py",
        "app/workers/llm_batches.py",
        "migrations/versions/llm_batch.py",
        "tests/workers/llm_batch_lab.py",
        "tests/workers/test_llm_summarise_overnight.py",
    ]
    for name in ("app/llm/summarise_overnight.py", "tests/workers/test_llm_summarise_overnight.py"):
        assert after[name] == (TEMPLATES / name).read_text()
    command = "python -m app.workers.run"
    assert added.data["run"] == f"{command} llm_batches"
    lines = [f"{name}: exec {command} {name}" for name in ("llm_batches", "llm_jobs")]
    assert added.data["procfile"].splitlines() == lines
    assert script("diff", "--project", shop).code == 0


def test_next_one_is_one_file_and_its_test_and_a_second_run_changes_nothing(
    shop: Path, add_llm: Script, script: Script, tree: Tree
) -> None:
    add_llm(shop)
    before = tree(shop)

    added = add_llm(shop, name="brief")
    once = tree(shop)
    again = add_llm(shop, "--format", "json", name="brief")

    assert added.code == 0, added.err
    assert once.keys() - before.keys() == {"app/llm/brief.py", "tests/workers/test_llm_brief.py"}
    assert (again.code, again.data["changed"], tree(shop)) == (0, False, once)
    assert script("diff", "--project", shop).code == 0


def test_beside_tracked_tasks_the_shared_files_are_the_same(
    shop: Path, add_tracked: Script, add_llm: Script, script: Script, tree: Tree
) -> None:
    add_tracked(shop)
    before = {name: text for name, text in tree(shop).items() if name != RECORD}

    added = add_llm(shop, "--format", "json")

    assert added.code == 0, added.err
    assert {name: text for name, text in tree(shop).items() if name in before} == before
    states = {file["state"] for file in added.data["files"] if file["path"] != RECORD}
    assert states == {"new", "same"}
    assert script("diff", "--project", shop).code == 0


def test_extras_land_when_asked_for(shop: Path, add_llm: Script, tree: Tree) -> None:
    add_llm(shop)
    files = {
        "jobs-api": {"api/jobs.py", "api/job_accept.py", "api/job_shown.py", "api/worker_answers.py"},
        "events-api": {"api/job_events.py", "api/llm_usage.py", "core/job_follow.py", "core/llm_usage.py"},
        "job-flow": {"core/job_flow.py"},
        "anthropic": {"core/llm_anthropic.py"},
        "openai": {"core/llm_openai.py"},
    }
    assert files.keys() == LLM.extras.keys()
    for extra, wanted in files.items():
        before = tree(shop)
        added = add_llm(shop, "--with", extra)
        assert (added.code, f"wire {extra}: " in added.out) == (0, extra != "job-flow"), added.err
        assert tree(shop).keys() - before.keys() == {f"app/{name}" for name in wanted}


def test_report(shop: Path, add_llm: Script) -> None:
    data = add_llm(shop, *TYPE, "--format", "json", "--dry-run").data

    assert data["run"] == "python -m app.workers.run llm_jobs"
    assert data["procfile"] == f"llm_jobs: exec {data['run']}"
    assert data["dead_letters"] == "python -m app.workers.dead_letters llm_jobs list"
    assert data["prove"] == "python -m pytest tests/workers/test_llm_summarise_document.py"
    assert data["environment"].keys() == {"LLM_API_KEY", "LLM_MODEL"}
    assert "kind of job   shop.document.summarise.v1\n" in add_llm(shop, *TYPE, "--dry-run").out


def test_in_a_renamed_package(acme: Path, add_llm: Script, tree: Tree) -> None:
    calls = "acme.services.documents:DocumentService.store_summary"
    added = add_llm(acme, "--with", "events-api", "--format", "json", calls=calls)

    files = tree(acme)
    assert 'FOLDER = "acme.llm"' in files["src/acme/workers/llm_jobs.py"]
    assert '"shop.summarise.document.v1"' in files["src/acme/llm/summarise_document.py"]
    for path in (file["path"] for file in added.data["files"]):
        assert re.findall(r"\bapp\.(?:core|llm|workers|api)\b", files[path]) == [], path


def test_payload_of_two_methods_and_limits(
    shop: Path, service: Callable[[str], Path], add_llm: Script
) -> None:
    service(BOTH)
    limits = ("--deadline", "2d", "--timeout", "1h")

    added = add_llm(shop, *limits, name="diary", calls="app.services.made:Made.keep", prompt="ask")

    assert added.code == 0, added.err
    text = (shop / "app" / "llm" / "diary.py").read_text()
    ast.parse(text)
    assert '    day: date\n    tone: str = "dry"\n    places: int = 2\n' in text.replace("'", '"')
    assert "            day=context.data.day,\n            tone=context.data.tone,\n        )\n" in text
    assert (
        "        day=context.data.day,\n        text=context.answer.text,\n"
        "        places=context.data.places,\n        idempotency_key=context.idempotency_key,\n    )\n"
        in text
    )
    assert "    timeout=timedelta(hours=1),\n    deadline=timedelta(days=2),\n)\n" in text


def test_plain_functions(shop: Path, service: Callable[[str], Path], add_llm: Script) -> None:
    service(
        f"{HEAD}async def ask(session: AsyncSession) -> str: ...\n"
        "async def keep(session: AsyncSession, text: str) -> None: ...\n"
    )

    added = add_llm(shop, name="plain", calls="app.services.made:keep", prompt="ask")

    assert added.code == 4, "a module has functions `ask` and its own is called so"
    assert "the name ask of app.services.made.ask is taken" in added.err
    text = (shop / "app" / "services" / "made.py").read_text().replace("def ask", "def question_of")
    service(text)
    added = add_llm(shop, name="plain", calls="app.services.made:keep", prompt="question_of")
    assert added.code == 0, added.err
    text = (shop / "app" / "llm" / "plain.py").read_text()
    ast.parse(text)
    assert "        question = await question_of(\n            session,\n        )\n" in text
    assert "    await keep(\n        session,\n        text=context.answer.text,\n    )\n" in text


@pytest.mark.parametrize(
    ("calls", "prompt", "text"),
    [
        ("keep_two", "ask", "there is: text: str, other: str"),
        ("keep_none", "ask", "there is: none"),
        ("keep_bytes", "ask", "there is: text: bytes"),
        ("keep_other", "ask", "day is of another type than in Made.ask"),
        ("keep", "ask_much", "Made.ask_much returns list[str]; a str is needed"),
        ("keep", "missing", "no method missing"),
    ],
)
def test_methods_that_do_not_fit(
    shop: Path, service: Callable[[str], Path], add_llm: Script, *, calls: str, prompt: str, text: str
) -> None:
    service(BOTH)

    run = add_llm(shop, name="diary", calls=f"app.services.made:Made.{calls}", prompt=prompt)

    assert (run.code, run.out, len(run.err.splitlines())) == (SERVICE, "", 1), run.err
    assert text in run.err
    assert not (shop / "app" / "llm").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--timeout", "soon"), "--timeout soon: write a length of time"),
        (("--type", "mail"), "--type mail: write it as <name>.v<number>"),
    ],
)
def test_options_that_make_no_sense(
    shop: Path, add_llm: Script, *, options: tuple[str, ...], text: str
) -> None:
    run = add_llm(shop, *options)

    assert (run.code, text in run.err) == (USAGE, True), run.err


def test_a_name_that_is_taken_by_another_file(shop: Path, add_llm: Script) -> None:
    add_llm(shop)
    job = shop / "app" / "llm" / "summarise_document.py"
    job.write_text(f"{job.read_text()}# ours\n")

    run = add_llm(shop)

    assert (run.code, "app/llm/summarise_document.py" in run.err) == (TAKEN, True)
