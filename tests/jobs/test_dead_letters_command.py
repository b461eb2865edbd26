"""The command for dead letters, for those of Celery tasks and jobs."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from datetime import timedelta
from typing import Any

import pytest

from app.core.database import get_session
from app.core.dead_letter_table import bury
from app.core.job_store import Settlement, claim, settle
from app.core.job_upkeep import note_ends
from app.workers import dead_letters
from support.job_scene import JobScene
from support.workers import IMPORT_PATH

EVENT = {"specversion": "1.0", "source": "/shop", "type": "mail.invoice.v1", "data": {"user_id": 1}}


async def run(jobs: JobScene, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command, as a user runs it; it has to end with `code`."""
    result = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "app.workers.dead_letters", *arguments],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, IMPORT_PATH)),
            "DATABASE_URL": jobs.postgres_url,
            **jobs.environment(),
        },
        cwd=jobs.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == code, f"{arguments}: {result.returncode}\n{result.stdout}{result.stderr}"
    return result


async def found(jobs: JobScene, name: str) -> list[dict[str, Any]]:
    """The letters of a task or of the jobs."""
    listed = await run(jobs, name, "list", "--format", "json")
    return [json.loads(line) for line in listed.stdout.splitlines()]


async def test_letters_of_tasks_jobs_and_neither(jobs: JobScene) -> None:
    # Given a message of a task, something that was no task, and a job, all given up
    event = json.dumps({**EVENT, "id": (message := str(uuid.uuid4()))}).encode()
    await jobs.orders(1)
    id_ = await jobs.submit(1)
    row = await claim(id_, "runner", timedelta(seconds=30))
    assert row is not None
    async with get_session() as session:
        await bury(session, source="mail.invoice", id=message, body=event, reason="no customer", attempts=8)
        await bury(session, source="celery", id="x", body=b"\xff", reason="no Celery message", attempts=1)
        ended = await settle(session, id_, row.attempt, Settlement("failed", "a bug"))
        assert ended is not None
        await note_ends(session, [ended])
    # Then each is found under the name of its task, of Celery, or of the dispatcher
    wanted = {"invoice_email": "no customer", "celery": "no Celery message", "job_dispatcher": "a bug"}
    listed = await asyncio.gather(*(found(jobs, name) for name in wanted))
    assert [[letter["reason"] for letter in letters] for letters in listed] == [
        [why] for why in wanted.values()
    ]
    # When those of task and job are replayed
    await asyncio.gather(
        run(jobs, "invoice_email", "replay", "--all"), run(jobs, "job_dispatcher", "replay", "--all")
    )
    # Then the message is in the outbox, byte for byte, and the job is queued
    (sent,) = await jobs.sql("SELECT topic, message_id, body FROM outbox_message")
    assert (sent["topic"], str(sent["message_id"]), sent["body"].encode()) == ("mail.invoice", message, event)
    assert await jobs.states() == {"queued": 1}
    assert [row["source"] for row in await jobs.sql("SELECT source FROM dead_letter")] == ["celery"]
    # And a tracked task says whose its letters are
    assert "belong to job_dispatcher" in (await run(jobs, "process_payment", "list", code=2)).stderr


def test_a_project_without_celery_has_none_of_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "TASKS", "app.no_such_tasks")
    names = dead_letters.owners()
    assert "order_paid" in names
    assert not {"celery", "invoice_email"} & names.keys()
