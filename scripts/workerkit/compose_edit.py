"""Services for the workers in a compose file, beside that of the API and like it: the same image, environment
and what else a process has. Only where it is certain, which is when the file's text is plain and the image
starts the API as any other command; text is copied, for there is no YAML in the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from workerkit.look_around import services

ALIKE = {
    *("build", "image", "env_file", "environment", "depends_on", "networks", "volumes", "secrets", "configs"),
    *("extra_hosts", "dns", "working_dir", "user", "restart", "platform", "init", "logging", "pull_policy"),
}
# What only an API has. With anything else the two might get into each other's way.
OTHERWISE = {"command", "ports", "expose", "container_name", "hostname", "healthcheck", "labels", "develop"}
# A program on the path of the image, started as it is.
STARTS = re.compile(r"[\s\[\"'-]*(exec |\S*/)?(uvicorn|gunicorn|hypercorn|fastapi|python3?)\b(?!.*--app-dir)")
UNPLAIN = re.compile(r"\t|\r|(^|[\s:\[-])&\w|<<:")
WORKER = re.compile(r"\.workers\.run |\bcelery\b")
GRACE = "40s"  # above WORKER_DRAIN_SECONDS; Compose gives 10 s

Keys = dict[str, list[str]]
Read = Callable[[str], str | None]


def with_services(text: str, commands: Mapping[str, str], read: Read) -> str | None:
    """The file with a service for each command; None where that is not certain. `read` gives the text of a
    file beside it.
    """
    lines = text.splitlines(keepends=True)
    names = services(text)
    if not names or UNPLAIN.search(text) or not text.endswith("\n"):
        return None
    first = next(line for line in lines if re.match(rf" +{re.escape(names[0])}:", line))
    outer = first[: len(first) - len(first.lstrip())]
    keys = only_app([block(lines, f"{outer}{name}") for name in names])
    if keys is None or keys.keys() - ALIKE - OTHERWISE or not starts_plainly(keys, read):
        return None
    copied = [line for key, part in keys.items() if key in ALIKE for line in part]
    inner = copied[0][: len(copied[0]) - len(copied[0].lstrip())]
    gap = ["\n"] if "\n\n" in text[text.index(first) :] else []
    new: list[str] = []
    for name, command in commands.items():
        own = [f"{inner}command: {command}\n", f"{inner}stop_grace_period: {GRACE}\n"]
        new += [*gap, f"{outer}{name}:\n", *copied, *own]
    at = end_of_services(lines)
    edited = "".join([*lines[:at], *new, *lines[at:]])
    return edited if services(edited) == [*names, *commands] else None


def only_app(found: list[Keys | None]) -> Keys | None:
    """The one service that is built from the project and is no worker; None unless there is one."""
    apps = [
        keys
        for keys in found
        if keys is None or ("build" in keys and not WORKER.search(" ".join(keys.get("command", []))))
    ]
    return apps[0] if len(apps) == 1 else None


def block(lines: list[str], head: str) -> Keys | None:
    """The keys of the service with this first line, each with its lines; None for one that is not written
    plainly.
    """
    start = next(n for n, line in enumerate(lines) if re.match(rf"{re.escape(head)}:\s*(#.*)?$", line))
    keys: Keys = {}
    width = 0
    for line in lines[start + 1 :]:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        depth = len(line) - len(line.lstrip())
        if depth <= len(head) - len(head.lstrip()):
            break
        width = width or depth
        if depth == width and (found := re.match(r" +([\w-]+):(\s|$)", line)):
            keys[found[1]] = [line]
        elif keys and (depth > width or line.lstrip().startswith("- ")):
            keys[next(reversed(keys))].append(line)
        else:
            return None
    return keys


def starts_plainly(keys: Keys, read: Read) -> bool:
    """Whether the API's process is started by its command alone, so that another command starts a worker."""
    found = dockerfile(keys["build"])
    image = read(found) if found is not None else None
    if image is None or re.search(r"^\s*ENTRYPOINT\b", image, re.MULTILINE | re.IGNORECASE):
        return False
    if "command" in keys:
        command = " ".join(line.strip() for line in keys["command"]).removeprefix("command:")
    else:
        commands = re.findall(r"^\s*CMD\s+(.+)$", image, re.MULTILINE | re.IGNORECASE)
        # With a target it is the command of that stage, and not perhaps the last one.
        last = commands and not any(line.strip().startswith("target:") for line in keys["build"])
        command = commands[-1] if last else ""
    return STARTS.match(command) is not None


def dockerfile(build: list[str]) -> str | None:
    """The path of the Dockerfile, from the compose file's folder."""
    pairs = re.findall(r"(\w+):[ ]*(\S+)?[ ]*$", "".join(build), re.MULTILINE)
    values = {key: value.strip("\"'") for key, value in pairs}
    context = values.get("build") or values.get("context")
    name = values.get("dockerfile") or "Dockerfile"
    plain = context and all(re.fullmatch(r"[\w./-]+", part) for part in (context, name))
    return f"{context}/{name}" if plain else None


def end_of_services(lines: list[str]) -> int:
    """The line after the last one of the services."""
    start = next(n for n, line in enumerate(lines) if line.startswith("services:"))
    after = start
    for number, line in enumerate(lines[start + 1 :], start + 1):
        if line[0] not in " \n#":
            break
        if line.startswith(" "):
            after = number
    return after + 1
