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
