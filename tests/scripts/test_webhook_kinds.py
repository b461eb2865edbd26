"""The sender and the receiver of webhooks that add_worker.py adds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workerkit.record import NAME as RECORD

Script = Callable[..., Any]
Tree = Callable[[Path], dict[str, str]]
KINDS = ("webhook-sender", "webhook-receiver")
# What each worker adds a line to.
TOLD = {"README.md", RECORD}


def test_the_sender_brings_its_api_tables_and_tests(shop: Path, script: Script, tree: Tree) -> None:
    before = tree(shop)

    added = script("webhook-sender", "--project", shop, "--format", "json")

    assert added.code == 0, added.err
    after = tree(shop)
    new = after.keys() - before.keys()
    assert {name: after[name] for name in before.keys() - TOLD} == {
        name: before[name] for name in before.keys() - TOLD
    }
    assert {
        "app/api/webhooks.py",
        "app/core/webhook_endpoints.py",
        "app/core/webhook_target.py",
        "app/models/webhook_endpoint.py",
        "app/workers/webhooks.py",
        "app/workers/dead_letters.py",
        "tests/workers/webhook_lab.py",
        "tests/workers/webhook_kit.py",
        "tests/workers/test_worker_webhooks.py",
    } <= new
    assert [name for name in new for word in ("celery", "llm", "cron_", "webhook_in") if word in name] == []
    assert added.data["procfile"] == "webhooks: exec python -m app.workers.run webhooks"
    assert added.data["dead_letters"] == "python -m app.workers.dead_letters webhooks list"
    assert any("webhooks_router(current_owner)" in step for step in added.data["todo"])


def test_the_receiver_is_a_router_and_no_process(shop: Path, script: Script, tree: Tree) -> None:
    before = tree(shop)

    added = script("webhook-receiver", "--project", shop, "--format", "json")
    shown = script("webhook-receiver", "--project", shop)

    assert added.code == 0, added.err
    new = tree(shop).keys() - before.keys()
    assert {"app/api/webhook_in.py", "app/core/inbox.py", "app/models/inbox_message.py"} <= new
    assert [name for name in new if name.startswith("app/workers/") or "/job" in name] == []
    assert (added.data["run"], added.data["procfile"], added.data["dead_letters"]) == ("", "", None)
    assert added.data["prove"] == "python -m pytest tests/workers/test_worker_webhook_in.py"
    assert any("webhook_in_router(PROVIDER, keys, store)" in step for step in added.data["todo"])
    assert "\nrun " not in shown.out


def test_both_beside_other_workers_share_files_and_a_second_run_changes_nothing(
    shop: Path, script: Script, add_llm: Script, tree: Tree
) -> None:
    add_llm(shop, "--with", "jobs-api")
    before = tree(shop)
    for kind in KINDS:
        assert script(kind, "--project", shop).code == 0
    once = tree(shop)
    kept = before.keys() - TOLD
    assert {name: once[name] for name in kept} == {name: before[name] for name in kept}
    assert "webhooks" in once["README.md"]
    assert "webhook_in" not in once["README.md"]

    for kind in KINDS:
        again = script(kind, "--project", shop, "--format", "json")
        assert (again.code, again.data["changed"]) == (0, False)

    assert tree(shop) == once
    assert script("diff", "--project", shop).code == 0


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_renamed_package(acme: Path, script: Script, tree: Tree, kind: str) -> None:
    added = script(kind, "--project", acme, "--format", "json")

    assert added.code == 0, added.err
    files = tree(acme)
    for path in (file["path"] for file in added.data["files"] if file["role"] != "test"):
        assert "from app." not in files[path], path
