"""Broken, huge and hostile trees are read to their end, and nothing of them is run."""

import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from benchmarks.checking import write_huge
from checkkit import files, reader
from checkkit.run import check

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_workers.py"
WRONG = "import time\nasync def handle():\n    time.sleep(1)\n"


def rules_in(folder: Path) -> list[tuple[str, str]]:
    return [(one.path, one.rule) for one in check(folder).found]


@pytest.mark.parametrize(
    "data",
    [
        b"def f(:\n",
        b"x = '\xff\xfe'\n",
        b"# coding: no-such-code\nx = 1\n",
        b"x = 1\0\n",
        b"x = " + b"(" * 5000 + b")" * 5000,
        b"x = " + b"-" * 200_000 + b"1\n",
        "x = 1\n".encode("utf-16"),
        b"if x:\n\ty = 1\n        z = 2\n",
    ],
    ids=["syntax", "bytes", "coding", "nul", "parentheses", "minus", "utf-16", "tabs"],
)
def test_a_broken_file_is_one_finding_and_others_are_checked(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_bytes(data)
    (tmp_path / "work.py").write_text(WRONG)
    assert rules_in(tmp_path) == [("broken.py", "CHK01"), ("work.py", "ASY02")]


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + WRONG.encode(),
        b"# -*- coding: latin-1 -*-\n# caf\xe9\n" + WRONG.encode(),
        WRONG.replace("\n", "\r\n").encode(),
        b"\x0c\n" + WRONG.encode(),
        WRONG.replace(
            "import time", "import time\ntry:\n    pass\nexcept OSError, ValueError:\n    pass"
        ).encode(),
        WRONG.encode()
        + b"    match 1:\n        case True | None | 1j | [*_] | {0: x, **y} | str(x=1): pass\n",
    ],
    ids=["bom", "latin-1", "crlf", "form-feed", "python-3.14", "match"],
)
def test_encodings_and_line_ends(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_bytes(data)
    assert rules_in(tmp_path) == [("work.py", "ASY02")]


def test_deep_trees(tmp_path: Path) -> None:
    (tmp_path / "sum.py").write_text("import hmac\nx = " + " + ".join(["a"] * 900) + "\ny = x == hmac\n")
    (tmp_path / "chain.py").write_text("import redis\nx = a" + ".b()" * 400 + "\n")
    (tmp_path / "blocks.py").write_text("".join(" " * n + "if x:\n" for n in range(90)) + " " * 90 + "pass\n")
    (tmp_path / "circle.py").write_text(
        "import celery\na = b\nb = a\na = a.a(b)\nclass C(C): a = C()\nC().a.b()\n"
    )
    (tmp_path / "one.py").write_text("from two import f, x\ndef g(): f()\n" + WRONG)
    (tmp_path / "two.py").write_text("from one import g as f, x\ndef h(): f()\n")
    assert rules_in(tmp_path) == [("one.py", "ASY02")]


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "work.py").write_text(WRONG)
    (tmp_path / "app" / "again").symlink_to(tmp_path / "app")
    (tmp_path / "app" / "self.py").symlink_to(tmp_path / "app" / "self.py")
    (tmp_path / "app" / "gone.py").symlink_to(tmp_path / "nowhere.py")
    assert rules_in(tmp_path) == [("app/work.py", "ASY02")]


def test_nothing_of_the_project_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"open({str(mark)!r}, 'w').close()\n"
    for name in ("work.py", "sitecustomize.py", "ast.py", "celery.py", "checkkit/rule.py", "tomllib.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code + "import celery\n")
    command = [sys.executable, str(SCRIPT), "."]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert not mark.exists()


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    # Given half a megabyte in one file, and twenty thousand lines; benchmarks/checking.py takes more
    write_huge(tmp_path, data=500_000, modules=40)

    # When a process that may have 384 MB of address space checks them
    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (384 * 1024**2, 384 * 1024**2))

    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=bounded)

    # Then it comes to its end
    assert result.returncode == 1, result.stderr
    assert "in 41 files, 2" in result.stdout


@pytest.mark.slow
def test_memory_does_not_grow_with_kept_trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given 15,000 lines, every module of which is read twice
    write_huge(tmp_path, data=1000, modules=30)

    # When all trees are kept between the two readings, and when next to none are
    kept = peak(tmp_path)
    monkeypatch.setattr(reader, "KEEP", 10_000)

    # Then what stays are summaries
    assert peak(tmp_path) < kept / 2


def peak(folder: Path) -> int:
    """The most memory, in bytes, that checking takes at any time."""
    tracemalloc.start()
    try:
        check(folder)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_file_that_is_too_large_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST", 20)
    (tmp_path / "work.py").write_text(WRONG)
    assert rules_in(tmp_path) == [("work.py", "CHK01")]


def test_tests_are_left_out(tmp_path: Path) -> None:
    for name in ("tests/test_work.py", "tests/support.py", "app/test_work.py", "conftest.py", "app/work.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(WRONG)
    assert rules_in(tmp_path) == [("app/work.py", "ASY02")]


LISTS = "list[" * 80 + "int" + "]" * 80
ATTRIBUTES = "        self.a = self.a.b\n" * 3000 + "        self.a.get(1)\n"
CELLS = '{"cells": [{"cell_type": "code", "source": ["import time\\n"], "outputs": []}], "nbformat": 4}'
CRON = "from apscheduler.triggers.cron import CronTrigger\n"
DEEP = "x" + ".y" * 900
STRANGE = {
    "f-strings": "x = " + 'f"{' * 60 + "1" + '}"' * 60 + "\n",
    "parts": "async def g(a):\n    yield f'data: {a}" + "{a}" * 5000 + "'\n",
    "walrus": "@(n := [y for x in range(9) if (y := x)].append)\ndef f(): ...\n",
    "elif": "if a:\n    pass\n" + "elif a.b():\n    x = a\n" * 10_000,
    "generics": "type A[T: (int, str), *R, **P] = dict[T, A]\nclass C[T](A[T]):\n    def m[U](self): ...\n",
    "except-star": "try:\n    f()\nexcept* (OSError, IntegrityError) as error:\n    raise error from None\n",
    "form-feeds": "\x0c\x0cx = 1\n\x0c\ndef f():\x0c\n    return x\n",
    "carriage-returns": "x = 1\ry = '''\r\n'''\r\n\rdef f():\r    pass\r",
    "notebook": CELLS,
    "magic": "%matplotlib inline\n!pip install x\nimport time\n",
    "attributes": "import redis\nx = redis" + ".Redis" * 3000 + "()\n",
    "decorators": "import celery\n" + "@celery.task\n" * 3000 + "def f(): ...\n",
    "self": f"class A:\n    def f(self):\n{ATTRIBUTES}",
    "lambdas": "import celery\nx = " + "lambda: " * 80 + "celery.chord(1)\n",
    "circle": "import redis\na = b = redis.Redis()\n" + "a, b = b, a\n" * 2000 + "a.xread({'s': 0})\n",
    "subscripts": f"x: {LISTS}\ndef f(a: {LISTS}): ...\n",
    "surrogates": "import hmac\nx = '\\ud800' == str(hmac.new(b'', b'').hexdigest)\n",
    "zones": f"{CRON}a = CronTrigger(hour=99, timezone='Asia/Tokyo')\nb = CronTrigger(timezone='../x')\n",
    "broker": f"import celery, redis\nc = celery.Celery('a', broker={DEEP})\nredis.from_url({DEEP})\n",
    "product": f"import celery\nc = celery.Celery('a')\nc.conf.task_time_limit = {' * '.join('2' * 980)}\n",
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_files_are_one_finding_or_none(name: str, tmp_path: Path) -> None:
    # Given a file that is right, or at least broken, in a strange way, beside one with a mistake
    (tmp_path / f"{name}.py").write_bytes(STRANGE[name].encode())
    (tmp_path / "work.py").write_text(WRONG)

    # When both are read, then the mistake is found, and of the strange one no more than that it is broken
    found = rules_in(tmp_path)
    assert ("work.py", "ASY02") in found
    assert [rule for path, rule in found if path != "work.py"] in ([], ["CHK01"])
