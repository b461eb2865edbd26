"""Projects whose package has another name or lies elsewhere."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workerkit.brokers import BROKERS

Script = Callable[..., Any]
Tree = Callable[[Path], dict[str, str]]
ACME = "acme.services.orders:OrderService.mark_paid"


@pytest.mark.parametrize("broker", BROKERS)
def test_renamed_package_below_src(
    acme: Path, add_consumer: Script, script: Script, tree: Tree, broker: str
) -> None:
    added = add_consumer(acme, "--format", "json", broker=broker, calls=ACME)
    relay = script("outbox-relay", "--no-readme", "--project", acme, "--format", "json")

    assert (added.code, relay.code) == (0, 0), added.err + relay.err
    assert added.data["package"] == "acme"
    assert added.data["run"] == "python -m acme.workers.run order_paid"
    files = tree(acme)
    assert 'name="order_paid"' in files["src/acme/consumers/order_paid.py"]
    written = {name: files[name] for name in (f["path"] for f in added.data["files"] + relay.data["files"])}
    for name, text in written.items():
        assert not re.search(r"\bapp\.\w", text), f"{name} still names the package app"
    assert 'IMPORT_ROOT = PROJECT / "src"' in files["tests/workers/lab.py"]


def test_package_in_a_folder_of_its_own(shop: Path, add_consumer: Script, tree: Tree) -> None:
    project = shop.parent / "whole"
    (project / "frontend").mkdir(parents=True)
    shutil.move(shop, project / "backend")

    added = add_consumer(project, "--format", "json")

    assert added.code == 0, added.err
    paths = {file["path"] for file in added.data["files"]}
    assert "backend/app/consumers/order_paid.py" in paths
    assert any(path.startswith("backend/migrations/versions/") for path in paths)
    assert "shop" in added.data["type"]
    lab = tree(project)["tests/workers/lab.py"]
    assert 'IMPORT_ROOT = PROJECT / "backend"' in lab


def test_package_below_another_package(shop: Path, add_consumer: Script) -> None:
    outer = shop / "company"
    outer.mkdir()
    (outer / "__init__.py").touch()
    (shop / "app").rename(outer / "app")
    for path in (outer / "app").rglob("*.py"):
        path.write_text(path.read_text().replace("from app.", "from company.app."))

    added = add_consumer(shop, "--format", "json", calls="company.app.services.orders:OrderService.mark_paid")

    assert added.code == 0, added.err
    assert added.data["package"] == "company.app"
    assert (
        "from company.app.core.envelope import Message\n"
        in (outer / "app/consumers/order_paid.py").read_text()
    )


def test_several_packages_must_be_told_apart(shop: Path, add_consumer: Script) -> None:
    shutil.copytree(shop / "app", shop / "other")

    unclear = add_consumer(shop)
    chosen = add_consumer(shop, "--package", "app")
    unknown = add_consumer(shop, "--package", "third")

    assert unclear.code == 3
    assert "app, other" in unclear.err
    assert chosen.code == 0, chosen.err
    assert unknown.code == 3
    assert "third" in unknown.err


@pytest.mark.parametrize(
    ("folder", "settings"),
    [("tests", ""), ("checks", '\n[tool.pytest.ini_options]\ntestpaths = ["checks"]\n')],
)
def test_tests_land_where_the_project_has_its_own(
    shop: Path, add_consumer: Script, folder: str, settings: str
) -> None:
    (shop / folder).mkdir()
    pyproject = shop / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + settings)

    added = add_consumer(shop, "--format", "json")

    assert added.data["prove"] == f"python -m pytest {folder}/workers/test_worker_order_paid.py"
    assert (shop / folder / "workers" / "replica.py").exists()


def test_folders_of_tools_and_tests_are_no_packages(shop: Path, add_consumer: Script) -> None:
    for folder in (".venv/lib/site-packages/other", "tests/data/other", "node_modules/other"):
        (shop / folder / "core").mkdir(parents=True)
        (shop / folder / "core" / "config.py").touch()

    assert add_consumer(shop).code == 0
