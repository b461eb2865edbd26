"""The migrations that add_worker.py writes, read as text and run by Alembic."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from support.servers import PostgresServer
from workerkit.migrations import Migrations, read_migrations
from workerkit.project import open_project

Script = Callable[..., Any]
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


def versions(project: Path) -> list[str]:
    return sorted(path.name for path in (project / "migrations" / "versions").glob("*.py"))


def migrations_of(project: Path) -> Migrations:
    found = read_migrations(open_project(project))
    assert found is not None
    return found


def write_revision(project: Path, name: str, down: str | None, body: str = "") -> None:
    path = project / "migrations" / "versions" / f"{name}_more.py"
    path.write_text(f"revision: str = {name!r}\ndown_revision = {down!r}\n{body}")


def test_migration_follows_the_head_and_sorts_after_it(
    shop: Path, add_consumer: Script, script: Script
) -> None:
    add_consumer(shop)
    script("outbox-relay", "--project", shop)

    first, inbox, outbox = versions(shop)
    assert re.fullmatch(r"\d{8}_\d{4}_inbox_message\.py", inbox)
    assert outbox.endswith("_outbox_message.py")
    text = (shop / "migrations" / "versions" / outbox).read_text()
    assert f'revision = "{outbox[:13]}"' in text
    assert f'down_revision = "{inbox[:13]}"' in text
    assert first[:13] < inbox[:13] < outbox[:13]


def test_stamp_is_later_than_one_that_lies_ahead(shop: Path) -> None:
    write_revision(shop, "20270101_2359", "20260105_0900")

    path, text = migrations_of(shop).new("inbox_message", NOW, None)

    assert path.name == "20270102_0000_inbox_message.py"
    assert 'down_revision = "20270101_2359"' in text


def test_table_that_a_migration_creates_gets_no_second_one(shop: Path, add_consumer: Script) -> None:
    write_revision(shop, "20260601_0000", "20260105_0900", 'op.create_table("inbox_message")\n')

    add_consumer(shop)

    assert len(versions(shop)) == 2


def test_several_tables_make_a_chain_from_the_head_that_was_chosen(shop: Path, add_task: Script) -> None:
    write_revision(shop, "20260601_0000", "20260105_0900")
    write_revision(shop, "20260601_0001", "20260105_0900")

    added = add_task(shop, "--head", "20260601_0000")

    assert added.code == 0, added.err
    new = [path for path in versions(shop) if not path.endswith("_more.py")][1:]
    assert len(new) == 4
    for path, down in zip(new, ["20260601_0000", *(name[:13] for name in new)], strict=False):
        text = (shop / "migrations" / "versions" / path).read_text()
        assert f'down_revision = "{down}"' in text


def test_several_heads_need_a_choice(shop: Path, add_consumer: Script) -> None:
    write_revision(shop, "20260601_0000", "20260105_0900")
    write_revision(shop, "20260601_0001", "20260105_0900")

    unclear = add_consumer(shop)
    wrong = add_consumer(shop, "--head", "20260105_0900")
    chosen = add_consumer(shop, "--head", "20260601_0001")

    assert (unclear.code, wrong.code, chosen.code) == (6, 6, 0), chosen.err
    assert "20260601_0000, 20260601_0001" in unclear.err
    assert (
        'down_revision = "20260601_0001"'
        in (shop / "migrations" / "versions" / versions(shop)[-1]).read_text()
    )


def test_merged_heads_are_one(shop: Path) -> None:
    write_revision(shop, "20260601_0000", "20260105_0900")
    write_revision(shop, "20260601_0001", "20260105_0900")
    merge = shop / "migrations" / "versions" / "merge.py"
    merge.write_text("revision = 'abc'\ndown_revision = ('20260601_0000', '20260601_0001')\n")

    assert migrations_of(shop).head() == "abc"


def test_first_migration_of_a_project_has_no_parent(shop: Path) -> None:
    for path in (shop / "migrations" / "versions").glob("*.py"):
        path.unlink()

    path, text = migrations_of(shop).new("outbox_message", NOW, None)

    assert path.name == "20261122_0930_outbox_message.py"
    assert "down_revision = None\n" in text
    assert "Create Date: 2026-11-22 09:30:00+00:00\n" in text


def test_project_without_alembic_is_told_to_create_the_table(shop: Path, add_consumer: Script) -> None:
    (shop / "alembic.ini").unlink()

    added = add_consumer(shop, "--format", "json")

    assert added.code == 0, added.err
    assert any("create the table inbox_message" in step for step in added.data["todo"])
    assert not [file for file in added.data["files"] if file["role"] == "migration"]


def test_script_location_without_env_is_an_error(shop: Path, add_consumer: Script) -> None:
    (shop / "migrations" / "env.py").unlink()

    assert add_consumer(shop).code == 6


def alembic(project: Path, url: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=project,
        env={**os.environ, "DATABASE_URL": url, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_tables_are_as_the_models_say_and_can_be_removed(
    acme: Path,
    *,
    add_consumer: Script,
    add_task: Script,
    add_tracked: Script,
    add_llm: Script,
    script: Script,
    postgres: PostgresServer,
) -> None:
    # Given a project with a consumer, a plain task with its relay, a tracked task, LLM jobs, and webhooks
    add_consumer(acme, calls="acme.services.orders:OrderService.mark_paid")
    add_task(acme, calls="acme.services.emails:EmailService.send")
    add_tracked(acme, calls="acme.services.payments:PaymentService.capture")
    add_llm(acme, "--batch", calls="acme.services.documents:DocumentService.store_summary")
    script("webhook-sender", "--project", acme)
    assert len(versions(acme)) == 10
    url = postgres.create_database("migrated")

    # When the migrations run
    alembic(acme, url, "upgrade", "head")

    # Then the models differ in nothing, and each migration can be taken back and made again
    assert "No new upgrade operations" in alembic(acme, url, "check")
    alembic(acme, url, "downgrade", "20260105_0900")
    alembic(acme, url, "upgrade", "head")
    alembic(acme, url, "downgrade", "base")
    postgres.drop_database("migrated")
