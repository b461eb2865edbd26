"""Server programs are found, chosen by the user, or named as missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from support import binaries
from support.workers import ROOT


@pytest.fixture
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "_newest", lambda _: None)
    for name in ("REDIS_SERVER", "RABBITMQ_SERVER", "POSTGRES_BIN", "CHROMIUM", "NODE"):
        monkeypatch.delenv(f"TEST_{name}", raising=False)


@pytest.mark.usefixtures("empty_machine")
def test_what_is_missing_is_named_with_the_way_out() -> None:
    assert binaries.missing() == ["PostgreSQL", "Redis", "RabbitMQ", "Chromium", "Node.js"]
    with pytest.raises(binaries.MissingServer, match=r"Redis is not installed: run `make services`, or set"):
        binaries.redis_server()


@pytest.mark.usefixtures("empty_machine")
def test_the_user_may_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_POSTGRES_BIN", "/opt/pg18/bin")
    monkeypatch.setenv("TEST_REDIS_SERVER", "/opt/valkey/bin/valkey-server")
    assert binaries.postgres_folder() == Path("/opt/pg18/bin")
    assert binaries.redis_server() == Path("/opt/valkey/bin/valkey-server")


def test_the_newest_of_several_versions_wins(tmp_path: Path) -> None:
    for version in ("9", "15", "13"):
        program = tmp_path / version / "initdb"
        program.parent.mkdir()
        program.touch(mode=0o755)
    patterns = (f"{tmp_path.relative_to('/')}/*/initdb",)
    assert binaries._newest(patterns) == tmp_path / "15" / "initdb"


def test_it_runs_before_anything_is_installed() -> None:
    """`make services` calls it with a bare interpreter: no site packages, no PYTHONPATH."""
    script = ROOT / "tests" / "support" / "binaries.py"
    result = subprocess.run(
        [sys.executable, "-I", "-S", str(script)], capture_output=True, text=True, check=False
    )
    assert result.returncode in {0, 1}
    assert result.stderr == ""
