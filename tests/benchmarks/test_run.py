from pathlib import Path

import pytest

from benchmarks import environments, growth, run
from benchmarks.plan import COMPARISONS, CONTESTANTS, FULL, KINDS, QUICK, SECTIONS, Plan
from benchmarks.spec import Spec


def plan(*argv: str) -> Plan:
    return run.plan_for(run.arguments(argv))


def test_everything_is_measured_unless_something_is_chosen() -> None:
    assert plan().sections == SECTIONS
    assert plan().contestants == CONTESTANTS


def test_parts_and_contestants_can_be_chosen() -> None:
    chosen = plan("--quick", "--only", "growth, noop,ours,bare", "--rounds", "3")

    assert chosen.sections == ("noop", "growth")
    assert chosen.contestants == ("ours", "bare")
    assert (chosen.rounds, chosen.growth_rounds) == (3, 3)


def test_contestants_alone_mean_the_comparisons_in_which_they_are() -> None:
    assert plan("--only", "ours,saq").sections == ("noop", "write")
    assert plan("--only", "rabbit_bare,rabbit_celery").sections == ("rabbit_noop", "rabbit_write")


def test_rabbitmq_is_started_where_it_is_needed() -> None:
    assert plan().uses_rabbit
    assert plan("--only", "rabbit_confirms").uses_rabbit
    assert not plan("--only", "noop,relay").uses_rabbit


@pytest.mark.parametrize("argv", [["--only", "nonsense"], ["--rounds", "0"]])
def test_a_mistake_is_told(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.arguments(argv)

    assert argv[0] in capsys.readouterr().err


@pytest.mark.parametrize("whole", [QUICK, FULL])
def test_there_is_an_order_for_every_message(whole: Plan) -> None:
    for section, one in COMPARISONS.items():
        if one.task == "write":
            needed = [whole.load(section).spec(name, "write", "").messages for name in one.contestants]
            assert whole.orders >= max(needed)
    assert whole.orders >= whole.growth_rounds * (whole.write.warmup + whole.growth["write"])
    assert {growth.KINDS[kind].task for kind in whole.kinds} <= set(whole.growth)


def test_every_kind_of_growth_is_known() -> None:
    assert tuple(growth.KINDS) == KINDS


def test_a_spec_survives_the_command_line() -> None:
    spec = FULL.noop.spec("saq", "noop", "redis://127.0.0.1:1/0")

    assert Spec.load(spec.dump()) == spec
    assert spec.count == FULL.noop.peer_count


def test_ours_runs_in_this_environment() -> None:
    assert Path(environments.python_of("ours")).exists()


def test_a_peer_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(environments.MODULES, "nobody", "no_such_module")

    with pytest.raises(environments.PeerMissingError, match="no_such_module not installed"):
        environments.python_of("nobody")


def test_an_environment_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_SAQ_PYTHON", "/somewhere/python")

    assert environments.chosen("bench-saq") == "/somewhere/python"


def test_no_name_means_two_things() -> None:
    assert not set(SECTIONS) & set(CONTESTANTS)
