"""What was measured on: figures without it cannot be compared."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.stage import SHOP, Stage
from support import binaries


def describe(stage: Stage) -> dict[str, Any]:
    """Processor, memory, Python, servers, date, and how busy the machine was before."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "redis_server": redis_version(),
        "postgresql": str(stage.sql("SHOW server_version", SHOP)[0][0]),
        "rabbitmq": stage.rabbit.rabbitmqctl("version").strip() if stage.rabbit is not None else None,
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def processor() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def redis_version() -> str:
    """The server's version: the word that follows `v=` in `redis-server --version`."""
    command = [str(binaries.redis_server()), "--version"]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return next((word[2:] for word in words if word.startswith("v=")), "unknown")
