"""Programs of another Debian release, run in the folder into which `tools/debian.sh` has unpacked it.

A program that lies there finds its libraries only in a chroot. What a server shares with its tests is mounted
there under its own path (temporary folders, accounts, devices), so that no path has to be translated. The
mounts are seen by that one process and its children and end with them: whatever kills a test run, nothing is
left to unmount, and deleting the folder deletes nothing else.
"""

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from support.workers import ROOT

SERVICES = ROOT / os.environ.get("TEST_SERVICES", ".services")
ENTER = """
set -e
root=$1 account=$2 PATH=$PATH:/usr/sbin:/sbin
shift 2
mkdir -p "$root$TMP_OF_TESTS"
for place in /proc /dev /etc/passwd /etc/group /etc/hosts "$TMP_OF_TESTS"; do
    mount --rbind "$place" "$root$place"
done
[ -d "$root$PWD" ] || cd /
exec chroot --userspec="$account" --groups= "$root" env --chdir="$PWD" "$@"
"""


class Launch(NamedTuple):
    """A command, and the account that its process has to be started with (None: the present one)."""

    command: list[str]
    account: str | None


def root_of(program: Path) -> Path | None:
    """The folder that `program` takes for its root; None for this machine's own programs."""
    if not program.is_relative_to(SERVICES):
        return None
    return SERVICES / program.relative_to(SERVICES).parts[0]


def launch(command: list[str], account: str | None = None) -> Launch:
    """How to run `command`, whose first part is a path, as `account`: in its chroot if it lies in one.

    The process keeps its id from the first moment to the last: each step replaces the one before.
    """
    root = root_of(Path(command[0]))
    if root is None:
        return Launch(command, account)
    program = Path("/") / Path(command[0]).relative_to(root)
    folder = Path(tempfile.gettempdir()).resolve()
    enter = ["unshare", "--mount", "env", f"TMP_OF_TESTS={folder}", "sh", "-c", ENTER, "chroot"]
    return Launch([*enter, str(root), account or "root", str(program), *command[1:]], None)
