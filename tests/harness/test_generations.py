"""Servers of other generations: found, unpacked, run in a chroot, or refused in one line."""

import os
import subprocess
from pathlib import Path

import psutil
import pytest

from support import chroot, generations
from support.binaries import MissingServer
from support.generations import Generation, MissingGeneration, UnknownGeneration
from support.servers import RedisServer
from support.workers import ROOT

REDIS_8 = next(generation for generation in generations.GENERATIONS if generation.title == "Redis 8")
FAILING = 'echo "I: Retrieving"; echo "E: Failed getting release file"; exit 1'
MIRROR = "http://mirror.test/debian/"
# Leaves one package behind, as the first stage does; its last arguments are the folder and the mirror.
FILLING = f"""
folder=${{@: -2:1}}
[ "${{@: -1}}" = {MIRROR} ] && [ "$http_proxy" = http://proxy.test:3128/ ] || exit 1
mkdir -p "$folder/etc" "$folder/var/cache/apt/archives"
touch "$folder/var/cache/apt/archives/redis-server.deb"
ln -s /proc "$folder/proc"
"""


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder for unpacked releases, on a machine that is none of them."""
    folder = tmp_path / "services"
    monkeypatch.setattr(chroot, "SERVICES", folder)
    monkeypatch.setattr(generations, "release_of_this_machine", lambda: None)
    return folder


def unpack(services: Path, generation: Generation) -> Path:
    """A release with nothing but the generation's program."""
    root = services / str(generation.release)
    program = root / generation.program
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    (root / "unpacked").touch()
    return program


def test_without_a_wish_it_is_the_machines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_REDIS", raising=False)
    assert generations.chosen("redis") is None


def test_a_generation_that_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_REDIS", "5")
    with pytest.raises(UnknownGeneration, match=r"^TEST_REDIS=5: known are 6\.2, 7, 8, valkey$"):
        generations.redis_server()


@pytest.mark.usefixtures("services")
def test_a_generation_that_is_not_there_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_REDIS", "8")
    with pytest.raises(
        MissingGeneration, match=r"^Redis 8 is not there: run `bash tools/debian.sh trixie` as root$"
    ):
        generations.redis_server()
    assert issubclass(MissingGeneration, MissingServer)


def test_what_is_unpacked_is_taken(monkeypatch: pytest.MonkeyPatch, services: Path) -> None:
    monkeypatch.setenv("TEST_REDIS", "8")
    program = unpack(services, REDIS_8)
    assert generations.redis_server() == program
    # And also where the machine itself is of that release
    monkeypatch.setattr(generations, "release_of_this_machine", lambda: "trixie")
    assert generations.redis_server() == program


@pytest.mark.usefixtures("services")
def test_a_machine_of_the_release_has_it_already(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(generations, "release_of_this_machine", lambda: "trixie")
    installed = tmp_path / "redis-server"
    installed.touch()
    own = Generation("redis", "8", "Redis 8", "8.", "trixie", str(installed.relative_to("/")))
    assert own.path() == installed


def test_redis_6_comes_in_a_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_REDIS", "6.2")
    wheel = generations.chosen("redis")
    assert wheel is not None
    assert generations.version_of(wheel).startswith("6.2.")


def test_the_machines_own_programs_are_started_as_they_are(services: Path) -> None:
    assert chroot.root_of(services.parent / "redis-server") is None
    assert chroot.launch(["/usr/bin/redis-server", "--port", "1"], "nobody") == (
        ["/usr/bin/redis-server", "--port", "1"],
        "nobody",
    )


def test_an_unpacked_program_is_started_in_its_root(services: Path) -> None:
    program = unpack(services, REDIS_8)
    command, account = chroot.launch([str(program), "--port", "1"], "nobody")
    assert command[:2] == ["unshare", "--mount"]
    assert command[-5:] == [str(services / "trixie"), "nobody", "/usr/bin/redis-server", "--port", "1"]
    assert account is None  # only root may enter; the account changes in there


@pytest.mark.services
def test_a_server_mounts_nothing_that_others_see_and_keeps_its_pid() -> None:
    def mounts() -> str:
        return Path("/proc/self/mounts").read_text()

    before = mounts()
    with RedisServer() as server:
        assert mounts() == before
        assert "server" in psutil.Process(server.pid).name()
    assert mounts() == before


# -- tools/debian.sh, with stand-ins for the programs that it calls -----------------------------------------


class Script:
    """`tools/debian.sh` on a machine where root may mount, with a debootstrap that behaves as told."""

    def __init__(self, folder: Path) -> None:
        self.services = folder / "services"
        self.programs = folder / "programs"
        self.programs.mkdir()
        self.stand_in("id", "echo 0")
        self.stand_in("unshare", "exit 0")
        self.stand_in("apt-get", f"echo Debian Debian-Security other; echo Debian Debian {MIRROR}")
        self.stand_in("apt-config", "echo 'Acquire::http::Proxy \"http://proxy.test:3128/\";'")
        self.stand_in("dpkg-deb", 'cd "$(dirname "$0")" && tar --create id')  # a package with one file

    def stand_in(self, name: str, text: str) -> None:
        program = self.programs / name
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)

    def run(self, release: str = "trixie") -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "TEST_SERVICES": str(self.services),
        }
        command = ["bash", str(ROOT / "tools" / "debian.sh"), release]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def test_an_unknown_release_is_refused(script: Script) -> None:
    result = script.run("sarge")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "Call tools/debian.sh bookworm, or trixie." in result.stderr
    assert not script.services.exists()


@pytest.mark.parametrize(
    ("program", "text", "line"),
    [
        ("uname", "echo Darwin", "that takes Linux"),
        ("id", "echo 1000", "that takes root"),
        ("unshare", "exit 1", "nothing may be mounted here. In a container, allow it"),
        ("debootstrap", FAILING, "debootstrap ended with: E: Failed getting release file"),
    ],
    ids=lambda value: value.split()[0],
)
def test_what_stands_in_the_way_is_one_line(script: Script, program: str, text: str, line: str) -> None:
    script.stand_in(program, text)
    result = script.run()
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert f"No servers of Debian trixie: {line}" in result.stderr


def test_it_is_unpacked_once(script: Script) -> None:
    # Given a run that was broken off after a download
    downloads = script.services / "trixie.downloads"
    script.stand_in("debootstrap", f"touch {downloads}/redis.deb; {FAILING}")
    assert script.run().returncode == 1
    assert (downloads / "redis.deb").exists()
    assert not (script.services / "trixie").exists()
    # When it is run again
    script.stand_in("debootstrap", FILLING)
    result = script.run()
    # Then all is there, and nothing else
    assert result.returncode == 0, result.stderr
    assert (script.services / "trixie" / "id").exists()
    assert (script.services / "trixie" / "etc" / "passwd").exists()
    assert not (script.services / "trixie" / "proc").is_symlink()
    assert {path.name for path in script.services.iterdir()} == {"lock", "trixie", "trixie.log"}
    # And a further run does nothing
    script.stand_in("debootstrap", FAILING)
    assert script.run().returncode == 0
