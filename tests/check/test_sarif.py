"""What is written as SARIF is SARIF: it fits the schema that OASIS publishes."""

import json
from pathlib import Path
from typing import Any

import pytest

import check_workers
from checkkit.rule import rules
from support.json_schema import Validator

SCHEMA = Path(__file__).parent / "sarif" / "sarif-schema-2.1.0.json"


@pytest.fixture(scope="module")
def validator() -> Validator:
    return Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def log_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    check_workers.main([str(folder), "--format", "sarif"])
    return json.loads(capsys.readouterr().out)


def test_findings_of_every_kind_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], validator: Validator
) -> None:
    # Given the wrong example of each rule, side by side, and a path and a line that need escapes
    for id_, rule in rules().items():
        (tmp_path / f"{id_}.py").write_text(rule.bad.partition("\n--- ")[0])
    (tmp_path / "wörk place.py").write_text(
        'import time\nasync def f():\n    time.sleep(1)  # "\\\t\u2028"\n'
    )
    (tmp_path / "Dockerfile").write_text("CMD alembic upgrade head && celery -A shop worker\n")
    (tmp_path / "broken.py").write_text("def f(:\n")

    # When they are written as SARIF
    log = log_of(tmp_path, capsys)

    # Then the log fits, and its places are relative URIs with lines from 1 on
    assert list(validator.errors(log)) == []
    results = log["runs"][0]["results"]
    assert len(results) > 60
    places = [one["locations"][0]["physicalLocation"] for one in results]
    assert "w%C3%B6rk%20place.py" in {place["artifactLocation"]["uri"] for place in places}
    assert min(place["region"]["startLine"] for place in places) == 1


def test_a_log_without_findings_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], validator: Validator
) -> None:
    assert list(validator.errors(log_of(tmp_path, capsys))) == []


def test_the_validator_sees_what_does_not_fit(validator: Validator) -> None:
    run = {"tool": {"driver": {"name": "x", "rules": [{"id": 1}]}}, "results": [{"level": "bad"}], "other": 1}
    wrong = "\n".join(validator.errors({"version": "2.1", "runs": [run]}))
    for part in ("version: enum", "rules[0].id: type", "message is missing", "level: enum", "other is not"):
        assert part in wrong
