"""Workers in projects that are built otherwise, with real servers: effect and note commit together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.servers import PostgresServer, RedisServer
from support.shapes import SHAPES

Script = Callable[..., Any]
SOME = "same_message or killed"


def prove(project: Path, work: str, **environment: str) -> str:
    """The landed tests' output. Raises AssertionError unless they pass."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TEST_"))}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-q",
            "-k",
            work,
        ],
        cwd=project,
        env={**own, "PYTHONPATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["celery-sync", "async-src", "flat-module"])
def test_faults_in_a_fitted_project(
    name: str, script: Script, tmp_path: Path, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    # Given services that are synchronous and commit, that are asynchronous and commit, and a single module
    shape = SHAPES[name]
    project = shape.build(tmp_path / "project")
    added = script("redis-consumer", "order_paid", "--calls", shape.calls, "--project", project)
    assert added.code == 0, added.err

    # When the landed tests run
    output = prove(
        project,
        SOME,
        TEST_DATABASE_URL=postgres.database_url("postgres"),
        TEST_REDIS_URL=redis_server.url,
    )

    # Then they pass: the service's session was in the transaction of the inbox
    assert "2 passed" in output
    assert output.count("LEDGER") == 2
    assert "lost=0" in output
