import math

import pytest

from benchmarks import figures


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
