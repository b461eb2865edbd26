import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import figures, latency, llm, tasks
from benchmarks.counter import Counter, counted

ROOT = Path(__file__).resolve().parents[2]


def run(seconds: float, cpu: float = 1.0, messages: int = 100) -> dict[str, object]:
    return {
        "rate": {"messages": messages, "seconds": seconds, "cpu_seconds": cpu},
        "latency": {
            "messages": 10,
            "cpu_seconds": 0.01,
            "p50_seconds": 0.002,
            "p99_seconds": 0.009,
            "peak_memory_bytes": 50_000_000,
        },
        "server_cpu_seconds": 0.5,
    }


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([1.0, 2.0], 50, 1.0),
        ([float(n) for n in range(1, 101)], 99, 99.0),
        ([7.0], 99, 7.0),
    ],
)
def test_a_percentile_is_one_of_the_values(values: list[float], percent: float, expected: float) -> None:
    assert figures.percentile(values, percent) == expected


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(figures.percentile([], 50))


def test_figures_are_per_message() -> None:
    found = figures.figures_of(run(seconds=0.5, cpu=0.002))

    assert found["messages_per_second"] == 200
    assert found["cpu_us"] == pytest.approx(20)
    assert found["server_cpu_us"] == pytest.approx(5000)
    assert found["p50_ms"] == pytest.approx(2)
    assert found["p99_ms"] == pytest.approx(9)
    assert found["trickle_cpu_us"] == pytest.approx(1000)
    assert found["peak_memory_mb"] == pytest.approx(50)


def test_a_ratio_compares_within_rounds() -> None:
    # Given a machine that is ten times as slow in the second round, for both
    ours = [figures.figures_of(run(seconds)) for seconds in (1.0, 10.0, 1.0)]
    other = [figures.figures_of(run(seconds)) for seconds in (2.0, 20.0, 2.0)]

    # Then ours is twice as fast all the same
    assert figures.ratio(ours, other, "messages_per_second") == pytest.approx(2)


def test_nothing_has_no_ratio() -> None:
    assert math.isnan(figures.ratio([], [], "cpu_us"))


def test_medians_are_taken_figure_by_figure() -> None:
    rounds = [{"a": 1.0, "b": 9.0}, {"a": 2.0, "b": 7.0}, {"a": 9.0, "b": 8.0}]

    assert figures.medians(rounds) == {"a": 2.0, "b": 8.0}


def test_growth_is_relative_to_the_smallest_size() -> None:
    costs = {100_000: [11.0, 22.0, 33.0], 1_000: [10.0, 20.0, 30.0]}

    assert figures.growth(costs) == {1_000: 1.0, 100_000: pytest.approx(1.1)}


@pytest.mark.parametrize(
    ("value", "at_least", "verdict"),
    [
        (0.6, True, "pass"),
        (0.4, True, "miss"),
        (0.4, False, "pass"),
        (0.6, False, "miss"),
        (math.nan, True, "not measured"),
    ],
)
def test_a_target_says_whether_it_was_reached(value: float, *, at_least: bool, verdict: str) -> None:
    target = figures.Target("share", value, 0.5, at_least=at_least)

    assert str(target).strip().startswith(verdict)
    assert target.reached == (verdict == "pass")


def test_a_counter_knows_what_all_processes_have_done(tmp_path: Path) -> None:
    # Given a process and a child of it, which count
    own = Counter(tmp_path)
    own.done()
    child = "import sys; from pathlib import Path; from benchmarks.counter import Counter\n"
    child += "one = Counter(Path(sys.argv[1])); one.done(); one.done()"
    subprocess.run([sys.executable, "-c", child, str(tmp_path)], check=True, cwd=ROOT)

    own.done()

    assert counted(tmp_path) == 4


def test_tasks_are_compared_within_rounds() -> None:
    found = {
        "write": {
            "tasks_tracked": [{tasks.RATE: 8.0}, {tasks.RATE: 80.0}],
            "tasks_same": [{tasks.RATE: 10.0}, {tasks.RATE: 100.0}],
            "tasks_bridge": [{tasks.RATE: 4.0}],
            "tasks_run": [{tasks.RATE: 2.0}],
        }
    }

    values = {target.text: target.value for target in tasks.targets(found)}

    assert values == {
        "tracked task, share of plain Celery with the same writes": pytest.approx(0.8),
        "async bridge, times asyncio.run per task": 2.0,
    }


def test_requests_are_compared_with_a_bare_insert() -> None:
    found = {way: [0.004] for way in (latency.BARE, *latency.OURS, latency.DELAY)}
    found["submit"] = [0.002, 0.010]

    assert latency.ask_figures(found)["submit"] == {
        "p50_ms": 2.0,
        "p99_ms": 10.0,
        "p50_ratio": 0.5,
        "p99_ratio": 2.5,
    }
    verdicts = {target.text: target.reached for target in latency.targets({"requests": found})}
    assert verdicts["submit: p99, times a bare insert's"] is False
    assert verdicts["enqueue: p99, times a bare insert's"] is True


def test_calls_are_counted_against_memory() -> None:
    load = {"jobs": 1000, "seconds": 5.0}
    ours = {"seconds": 7.5, "peak_mb": 200.0, llm.PER_MIB: 5.0}
    found = {llm.OURS: [ours], llm.PREFORK: [{llm.PER_MIB: 0.05}]}

    verdicts = [(round(target.value), target.reached) for target in llm.targets(found, load)]

    assert verdicts == [(8, True), (191, True), (100, True)]
