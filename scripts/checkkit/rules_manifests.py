"""Rules about how worker processes are started and kept: compose files, manifests, scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from checkkit.manifests import BEAT, WORKER, command, is_service, is_yaml, parts, whole
from checkkit.nodes import number
from checkkit.notes import TextFile
from checkkit.project import Project
from checkkit.rule import in_text

LIMITS = {"task_time_limit", "task_soft_time_limit"}
POOL = re.compile(r"\s(-P|--pool)[ =]?(threads|solo|gevent|eventlet)\b")
GRACE = re.compile(
    r"^\s*-?\s*(terminationGracePeriodSeconds|stop_grace_period)\s*:\s*[\"']?(?:(\d+)m)?(?:(\d+)s?)?[\"']?\s*$"
)
SERVER = re.compile(r"\b(uvicorn\s+(\w+)[\w.]*:\w+|fastapi\s+run)\b")


@in_text("CEL30")
def autoscale(file: TextFile, project: Project) -> Iterator[int]:
    """Scaling that does nothing."""
    modern = "quorum" in project.mentioned or any(re.search(r"rabbitmq:4", t.text) for t in project.texts)
    for line_number, line in enumerate(file.text.split("\n"), 1):
        words = command(line)
        if WORKER.search(words) and re.search(r"\s--autoscale\b", words):
            if modern and project.celery.scheme() != "redis":
                yield line_number


@in_text("CEL32")
def several_beats(file: TextFile, project: Project) -> Iterator[int]:
    """Two beats, each of which sends every tick."""
    if not is_yaml(file) or "redbeat" in str(sorted(project.packages)):
        return
    for first, part in parts(file):
        if BEAT.search(whole(part)) and "redbeat" not in whole(part).lower():
            for index, line in enumerate(part):
                if re.match(r"\s*replicas:\s*([2-9]|\d\d+)\b", line):
                    yield first + index


@in_text("CEL33")
def pool_without_limits(file: TextFile, project: Project) -> Iterator[int]:
    """Time limits that the pool does not keep."""
    limited = LIMITS & set(project.celery.settings) or project.notes.get("limited task")
    for line_number, line in enumerate(file.text.split("\n"), 1):
        words = command(line)
        if limited and WORKER.search(words) and POOL.search(words):
            yield line_number


@in_text("CEL35")
def evicts(file: TextFile, project: Project) -> Iterator[int]:
    """A Redis that throws the queue away when it is full."""
    queue = project.celery.scheme() == "redis" or "xreadgroup" in project.called
    servers = len(re.findall(r"^\s*image:\s*[\"']?\S*(?:redis|valkey)", file.text, re.MULTILINE))
    for line_number, line in enumerate(file.text.split("\n"), 1):
        if queue and servers < 2 and re.search(r"maxmemory-policy\s+allkeys-", command(line)):
            yield line_number


@in_text("LIF09")
def stays_down(file: TextFile, _: Project) -> Iterator[int]:
    """A worker that nobody starts again."""
    for first, part in parts(file) if is_yaml(file) else ():
        text = "\n".join(part)
        if is_service(file, part) and WORKER.search(whole(part)):
            if not re.search(r"^\s+(restart|restart_policy|extends|<<|deploy):", text, re.MULTILINE):
                yield first


@in_text("LIF10")
def waits_for_streams(file: TextFile, project: Project) -> Iterator[int]:
    """A server that waits for streams which do not end."""
    if "--timeout-graceful-shutdown" in file.text:
        return
    for line_number, line in enumerate(file.text.split("\n"), 1):
        found = SERVER.search(command(line))
        if found and project.streaming and "--reload" not in line:
            package = found[2] or ""
            ours = any(name.partition(".")[0] == package for name in project.modules)
            if not ours or package in project.streaming:
                yield line_number


@in_text("LIF11")
def too_little_grace(file: TextFile, project: Project) -> Iterator[int]:
    """Killed while it shuts down softly."""
    setting = project.celery.get("worker_soft_shutdown_timeout")
    soft = number(setting.node) if setting is not None else None
    for first, part in parts(file) if soft is not None and is_yaml(file) else ():
        for index, line in enumerate(part):
            found = GRACE.match(line)
            seconds = int(found[2] or 0) * 60 + int(found[3] or 0) if found else None
            if seconds is not None and seconds <= (soft or 0) and WORKER.search(whole(part)):
                yield first + index
