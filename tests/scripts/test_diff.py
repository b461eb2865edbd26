"""`add_worker.py diff`: the project's copies beside the templates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workerkit.brokers import BROKERS

Script = Callable[..., Any]


@pytest.mark.parametrize("broker", BROKERS)
def test_fresh_copies_do_not_differ_whatever_the_package_is_called(
    shop: Path, acme: Path, add_consumer: Script, script: Script, broker: str
) -> None:
    add_consumer(shop, broker=broker)
    add_consumer(acme, broker=broker, calls="acme.services.orders:OrderService.mark_paid")
    script("outbox-relay", "--project", acme)

    for project in (shop, acme):
        compared = script("diff", "--project", project, "--format", "json")
        assert compared.code == 0, compared.out
        assert {file["state"] for file in compared.data} == {"same"}
        names = {Path(file["path"]).name for file in compared.data}
        assert BROKERS[broker].consumer.rpartition(".")[2] + ".py" in names
        assert {Path(path).name for path in BROKERS[broker].test_support} <= names


def test_edited_and_missing_copies_are_shown(acme: Path, add_consumer: Script, script: Script) -> None:
    add_consumer(acme, calls="acme.services.orders:OrderService.mark_paid")
    core = acme / "src" / "acme" / "core"
    (core / "retry.py").write_text((core / "retry.py").read_text() + "\n# ours\n")
    (core / "gate.py").unlink()

    compared = script("diff", "--project", acme, "--format", "json")
    text = script("diff", "--project", acme)

    assert (compared.code, text.code) == (1, 1)
    states = {file["path"]: file["state"] for file in compared.data if file["state"] != "same"}
    assert states == {"src/acme/core/retry.py": "different", "src/acme/core/gate.py": "missing"}
    assert "-# ours" in text.out
    assert "+++ src/acme/core/retry.py (template)" in text.out


def test_the_users_own_consumer_is_not_compared(shop: Path, add_consumer: Script, script: Script) -> None:
    add_consumer(shop)
    (shop / "app" / "consumers" / "order_paid.py").write_text("# mine\n")

    assert script("diff", "--project", shop).code == 0


def test_project_without_workers(shop: Path, script: Script) -> None:
    compared = script("diff", "--project", shop)

    assert compared.code == 0
    assert "no workers" in compared.err
