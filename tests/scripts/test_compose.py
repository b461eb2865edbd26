"""Services for workers in a compose file: like the API's where that is certain, else said in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.shapes import SHAPES

Script = Callable[..., Any]
IMAGE = 'FROM python:3.13-slim\nCOPY . .\nCMD ["uvicorn", "acme.main:app"]\n'
COMPOSE = """\
# ours
services:
  db:
    image: postgres:17

  api:
    build:
      context: .
      dockerfile: Dockerfile
    env_file: .env
    environment:
      - PG_HOST=db  # beside it
    depends_on:
      db:
        condition: service_started
    ports:
      - "8000:8000"
    healthcheck:
      test: curl -f localhost:8000
    restart: unless-stopped

volumes:
  data: {}
"""
ADDED = """
  order-paid:
    build:
      context: .
      dockerfile: Dockerfile
    env_file: .env
    environment:
      - PG_HOST=db  # beside it
    depends_on:
      db:
        condition: service_started
    restart: unless-stopped
    command: python -m acme.background.workers.run order_paid
    stop_grace_period: 40s
"""


@pytest.fixture
def added(script: Script, tmp_path: Path) -> Callable[[str, str], Any]:
    """Adds a consumer to a project with a compose file and a Dockerfile."""

    def add(compose: str, image: str, *options: str) -> Any:
        shape = SHAPES["async-src"]
        project = tmp_path / "project"
        if not project.exists():
            shape.build(project)
            (project / "Procfile").unlink()
            (project / "compose.yaml").write_text(compose)
            (project / "Dockerfile").write_text(image)
        return script("redis-consumer", "order_paid", "--calls", shape.calls, "--project", project, *options)

    return add


def test_a_worker_gets_a_service_like_that_of_the_api(added: Callable[..., Any], tmp_path: Path) -> None:
    shown = added(COMPOSE, IMAGE, "--dry-run")
    done = added(COMPOSE, IMAGE)
    again = added(COMPOSE, IMAGE, "--format", "json")

    head, tail = COMPOSE.split("\nvolumes:")
    assert (tmp_path / "project/compose.yaml").read_text() == f"{head}{ADDED}\nvolumes:{tail}"
    assert "+  order-paid:\n" in shown.out
    assert "compose.yaml, services like" not in done.out
    assert "Procfile" not in done.out
    assert again.data["changed"] is False


def test_workers_are_no_models_for_others(added: Callable[..., Any], script: Script, tmp_path: Path) -> None:
    added(COMPOSE, IMAGE)
    project, shape = tmp_path / "project", SHAPES["async-src"]

    done = script("redis-consumer", "order_again", "--calls", shape.calls, "--project", project)

    assert done.code == 0, done.err
    text = (project / "compose.yaml").read_text()
    assert text == COMPOSE.replace("\nvolumes:", f"{ADDED}{twin(ADDED)}\nvolumes:")


def twin(service: str) -> str:
    """The service of the other worker."""
    return service.replace("order-paid", "order-again").replace("order_paid", "order_again")


@pytest.mark.parametrize(
    ("compose", "image"),
    [
        (
            COMPOSE.replace("services:", "services:\n  proxy:\n    image: x\n    depends_on:\n      api:\n"),
            IMAGE,
        ),
        (
            COMPOSE.replace("    restart", "    command: [uvicorn, 'acme.main:app']\n    restart"),
            "FROM python\n",
        ),
        (
            COMPOSE.replace("    build:\n      context: .\n      dockerfile: Dockerfile\n", "    build: .\n"),
            IMAGE,
        ),
        (COMPOSE.partition("\nvolumes")[0], IMAGE),
        (COMPOSE, IMAGE.replace('["uvicorn", "acme.main:app"]', "exec uvicorn acme.main:app --port 80")),
    ],
)
def test_ways_to_write_the_same(added: Callable[..., Any], tmp_path: Path, compose: str, image: str) -> None:
    done = added(compose, image)

    text = (tmp_path / "project/compose.yaml").read_text()
    assert done.code == 0, done.err
    assert "    command: python -m acme.background.workers.run order_paid\n" in text
    assert text.replace(text[text.index("\n  order-paid") : text.index("40s\n") + 4], "") == compose


@pytest.mark.parametrize(
    ("compose", "image"),
    [
        (COMPOSE, IMAGE + 'ENTRYPOINT ["./start.sh"]\n'),
        (COMPOSE, IMAGE.replace('"uvicorn"', '"uv", "run", "uvicorn"')),
        (COMPOSE, IMAGE.replace('"uvicorn"', '"uvicorn", "--app-dir", "src"')),
        (COMPOSE, "FROM python\nCMD ./start.sh\n"),
        (COMPOSE, "FROM tiangolo/uvicorn-gunicorn-fastapi\n"),
        (COMPOSE.replace("dockerfile: Dockerfile", "dockerfile: ../Other"), IMAGE),
        (COMPOSE.replace("context: .", "context: https://x.test/y.git"), IMAGE),
        (COMPOSE.replace("context: .", "context: .\n      target: web"), IMAGE),
        (COMPOSE.replace("    env_file", "    entrypoint: /start\n    env_file"), IMAGE),
        (COMPOSE.replace("    env_file", "    deploy:\n      replicas: 2\n    env_file"), IMAGE),
        (COMPOSE.replace("    env_file", "    <<: *app\n    env_file"), IMAGE),
        (COMPOSE.replace("environment:", "environment: &env"), IMAGE),
        (COMPOSE.replace("    env_file", '    "env_file"'), IMAGE),
        (COMPOSE.replace("image: postgres:17", "build: database"), IMAGE),
        (COMPOSE.replace("\n", "\r\n"), IMAGE),
        (
            COMPOSE.replace(
                "    build:\n      context: .\n      dockerfile: Dockerfile\n", "    image: a/b\n"
            ),
            IMAGE,
        ),
    ],
)
def test_what_is_not_certain_is_said(
    added: Callable[..., Any], tmp_path: Path, compose: str, image: str
) -> None:
    done = added(compose, image, "--format", "json")

    assert done.code == 0, done.err
    assert (tmp_path / "project/compose.yaml").read_text() == compose.replace("\r\n", "\n")
    (said,) = [step for step in done.data["todo"] if "compose.yaml" in step]
    assert "`order-paid` with command: python -m acme.background.workers.run order_paid" in said
