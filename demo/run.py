"""Workers in a fresh copy of the sample shop, with real orders and real faults, and the account of it.

    python -m demo.run                  less than a minute; needs no root, no Docker, no services
    python -m demo.run --orders 2000    more orders
    python -m demo.run --serve          everything goes on afterwards, for a look around

PostgreSQL and Redis come out of wheels and run in a temporary folder. A part with RabbitMQ joins in when
RABBITMQ_URL is set (that one is not killed, and left clean) or a rabbitmq-server is installed.

The last line of stdout is the ledger as JSON. Exit codes: 0 nothing was lost or done twice, 1 something was,
2 wrong command line, 3 the demo could not run (stderr says why), 130 stopped before the end.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from demo.play import Options

EXIT_NOT_RUN, EXIT_STOPPED = 3, 130
FEWEST, MOST = 20, 100_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code."""
    arguments = parser().parse_args(argv)
    if not FEWEST <= arguments.orders <= MOST:
        parser().error(f"--orders {arguments.orders}: from {FEWEST} to {MOST}")
    try:
        from demo.play import Options  # needs packages, and a missing one has to be explained
    except ImportError as error:
        return failed(f"{error}; run `make demo`, which installs what is needed")
    return play(Options(arguments.orders, arguments.seed, arguments.keep, arguments.serve))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m demo.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--orders", type=int, default=600, metavar="N", help="orders to send (default: 600)")
    result.add_argument("--seed", type=int, default=1, help="of baskets and victims (default: 1)")
    result.add_argument("--keep", action="store_true", help="do not remove the folder at the end")
    result.add_argument("--serve", action="store_true", help="leave everything running until Ctrl-C")
    return result


def play(options: Options) -> int:
    """Play, and leave nothing behind, whatever happens."""
    from demo.errors import DemoError
    from demo.play import Play
    from demo.screen import Screen
    from demo.stage import Stage

    stage, screen = Stage(), Screen()
    if options.keep:
        stage.keep()

    async def run() -> int:
        me = asyncio.current_task()
        assert me is not None
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, me.cancel)
        return await Play(options, stage, screen).run()

    try:
        return asyncio.run(run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("stopped; ending what was started\n")
        return EXIT_STOPPED
    except Exception as error:  # as a line where it is foreseen, in full where it is not
        cause = first_cause(error)
        if not isinstance(cause, DemoError):
            traceback.print_exception(error)
        return failed(str(cause) or repr(cause))
    finally:
        screen.restore()
        stage.close()


def first_cause(error: BaseException) -> BaseException:
    """The first error of a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def failed(reason: str) -> int:
    """Say why the demo could not run."""
    sys.stderr.write(f"demo: {reason}\n")
    return EXIT_NOT_RUN


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # so early that there was nothing to end
        sys.exit(EXIT_STOPPED)
