"""Runs workers in one process.

    python -m app.workers.run order_paid                     one consumer
    python -m app.workers.run order_paid outbox_relay        several in one process
    python -m app.workers.run --list                         what there is

A worker is a module of `app.consumers` or `app.workers` with a function `worker()`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import logging
import pkgutil
import sys
from collections.abc import Iterator, Sequence

from app.core.lifecycle import EXIT_SETTINGS, Worker, supervise
from app.core.outcomes import RefusedToStartError
from app.core.worker_settings import refusals, worker_settings

FOLDERS = ("app.consumers", "app.workers")
NO_WORKERS = {"app.workers.run", "app.workers.cron", "app.workers.dead_letters"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named workers; the exit code (see `app.core.lifecycle`)."""
    parser = argparse.ArgumentParser(description="Run background workers.")
    parser.add_argument("names", nargs="*", help="modules of app.consumers or app.workers")
    parser.add_argument("--list", action="store_true", help="print the names of all workers")
    args = parser.parse_args(argv)
    if args.list or not args.names:
        sys.stdout.write("\n".join(name for name, _ in available()) + "\n")
        return 0 if args.list else 2
    known = dict(available())
    unknown = [name for name in args.names if name not in known]
    if unknown:
        parser.error(f"no worker named {', '.join(unknown)}; there are: {', '.join(known)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if lines := refusals():
        sys.stderr.write("\n".join(["settings refused:", *lines]) + "\n")
        return EXIT_SETTINGS
    return asyncio.run(run([known[name] for name in args.names]))


async def run(modules: Sequence[str]) -> int:
    """Build the workers inside the running loop and run them."""
    settings = worker_settings()
    try:
        workers: list[Worker] = [importlib.import_module(module).worker() for module in modules]
    except RefusedToStartError as refused:
        sys.stderr.write(f"{refused}\n")
        return EXIT_SETTINGS
    return await supervise(workers, settings)


def available() -> Iterator[tuple[str, str]]:
    """Names and modules of all workers."""
    for folder in FOLDERS:
        spec = importlib.util.find_spec(folder)
        if spec is None:  # a project with a relay and no consumers
            continue
        for module in pkgutil.iter_modules(spec.submodule_search_locations):
            path = f"{folder}.{module.name}"
            if path not in NO_WORKERS:
                yield module.name, path


if __name__ == "__main__":
    sys.exit(main())
