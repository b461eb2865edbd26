"""How long `check_workers.py` takes, beside `ast.parse` over the same files, and the memory of both.

    python benchmarks/checking.py PATH...
    python benchmarks/checking.py --huge

`--huge` writes a file of 5 MB and half a million lines in a thousand files, and takes minutes. Each is
measured in a process of its own: CPU seconds and the largest resident size.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
TIMES = 3


def main() -> None:
    """Print a line for each path."""
    print("path                            lines  parse s  check s  ratio  parse MB  check MB")
    if sys.argv[1:] == ["--huge"]:
        with tempfile.TemporaryDirectory() as folder:
            write_huge(Path(folder))
            measure(folder)
        return
    for name in sys.argv[1:]:
        measure(name)


def measure(name: str) -> None:
    """Print the line of one path."""
    path = str(Path(name).absolute())
    parse = best([run("parse", path) for _ in range(TIMES)])
    check = best([run("check", path) for _ in range(TIMES)])
    ratio = check["seconds"] / parse["seconds"]
    times = f"{parse['seconds']:8.2f} {check['seconds']:8.2f} {ratio:6.2f}"
    print(f"{name[-30:]:30} {int(check['lines']):7} {times} {parse['mb']:9.0f} {check['mb']:9.0f}")


def write_huge(folder: Path, *, data: int = 5_000_000, modules: int = 1000) -> None:
    """A file with `data` bytes of literals and one mistake, and modules of 500 lines that call each other."""
    row = '    {"id": 12345, "name": "something rather long", "tags": ["a", "b"], "price": 12.5},\n'
    wrong = "import time\nasync def handle():\n    time.sleep(1)\n"
    (folder / "data.py").write_text("ROWS = [\n" + row * (data // len(row)) + "]\n" + wrong)
    function = "def f{}(a, b):\n    value = a.load(b)\n    return value or g(b)\n\n\n"
    body = "".join(function.format(n) for n in range(100))
    for n in range(modules):
        head = f"import celery\nfrom module_{(n + 1) % modules} import f0 as g\n\n"
        (folder / f"module_{n}.py").write_text(head + body)


def best(measured: list[dict[str, float]]) -> dict[str, float]:
    """The quickest one: the others were disturbed."""
    return min(measured, key=lambda one: one["seconds"])


def run(what: str, path: str) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, f"--{what}", path]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(result.stdout)
    return measured


def measured(what: str, path: Path) -> dict[str, float]:
    """Seconds of CPU, largest resident size in MB, and lines."""
    sys.path.insert(0, str(SCRIPTS))
    import checkkit.run  # noqa: F401  # imported before the clock starts: both need its part

    start = time.process_time()
    lines = parse(path) if what == "--parse" else check(path)
    seconds = time.process_time() - start
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "mb": megabytes, "lines": lines}


def parse(path: Path) -> int:
    """Read and parse, one file after the other, as the checker does; nothing else."""
    import ast
    import warnings

    from checkkit import files

    lines = 0
    warnings.simplefilter("ignore")
    for one in files.walk(path):
        if one.suffix == ".py":
            try:
                text = files.read(one)
                ast.parse(text)
            except (SyntaxError, ValueError, OSError):
                continue
            lines += text.count("\n") + 1
    return lines


def check(path: Path) -> int:
    """Check, without printing."""
    from checkkit.run import check as run_check

    return run_check(path).lines


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in {"--parse", "--check"}:
        print(json.dumps(measured(sys.argv[1], Path(sys.argv[2]))))
    else:
        main()
