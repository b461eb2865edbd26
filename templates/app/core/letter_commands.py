"""The commands of `app.workers.dead_letters`: each gets the dead letters and the arguments, and returns its
exit code. Data goes to stdout, remarks to stderr.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, TextIO

from app.core.dead_letters import DeadLetters, Groups, Letter, Pace, Wanted, chosen, each
from app.core.letter_lines import LineError, from_line, group_line, group_row, page, row, to_line

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_MISSING, EXIT_UNCONFIRMED, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130
SHOWN = 20
IMPORT_PORTION = 100
PROGRESS_EVERY = 1000


async def list_(letters: DeadLetters, args: Namespace) -> int:
    """Print one line for each letter."""
    show = to_line if args.format == "json" else row
    if args.newest:
        found: deque[Letter] = deque(maxlen=args.limit)
        async for letter in each(letters, args.wanted):
            found.append(letter)
        for letter in reversed(found):
            put(show(letter))
        return EXIT_DONE
    count = 0
    async with aclosing(each(letters, args.wanted, args.limit)) as some:
        async for letter in some:
            put(show(letter))
            count += 1
    if count == args.limit:
        remark(f"the first {count}; --limit shows more, --newest the newest")
    return EXIT_DONE


async def groups(letters: DeadLetters, args: Namespace) -> int:
    """Print one line for each reason and type."""
    found = Groups()
    async for letter in each(letters, args.wanted):
        found.add(letter)
    if args.format == "json":
        put(json.dumps([group_line(group) for group in found.largest_first()]))
    else:
        for group in found.largest_first():
            put(group_row(group))
    return EXIT_DONE


async def show(letters: DeadLetters, args: Namespace) -> int:
    """Print all about a letter."""
    async with aclosing(each(letters, args.wanted, 1)) as found:
        async for letter in found:
            for line in [to_line(letter)] if args.format == "json" else page(letter):
                put(line)
            return EXIT_DONE
    return missing(args.wanted.ids)


async def replay(letters: DeadLetters, args: Namespace) -> int:
    """Send letters back to their consumer."""
    if args.dry_run:
        return await preview(letters, args, "would be replayed")
    tally, pace = Tally("replayed", args.format), Pace(args.rate)
    try:
        async with aclosing(chosen(letters, args.wanted, args.limit)) as pages:
            async for found in pages:
                async with aclosing(pace.portions(found)) as portions:
                    async for portion in portions:
                        tally.note(args.wanted, portion, await letters.replay(portion))
    finally:
        tally.tell()
    return tally.code(args.wanted)


async def drop(letters: DeadLetters, args: Namespace) -> int:
    """Remove letters for good."""
    if not args.yes:
        await preview(letters, args, "would be dropped; nothing was, add --yes")
        return EXIT_UNCONFIRMED
    tally = Tally("dropped", args.format)
    try:
        async with aclosing(chosen(letters, args.wanted, args.limit)) as pages:
            async for found in pages:
                await letters.drop(found)
                tally.note(args.wanted, found, [None] * len(found))
    finally:
        tally.tell()
    return tally.code(args.wanted)


async def preview(letters: DeadLetters, args: Namespace, verb: str) -> int:
    """Print the first of the letters that are meant, and count all."""
    tally = Tally(verb)
    async with aclosing(each(letters, args.wanted, args.limit)) as found:
        async for letter in found:
            if tally.done < SHOWN:
                put(to_line(letter) if args.format == "json" else row(letter))
            tally.note(args.wanted, [letter], [None])
    remark(f"{tally.done} letters {verb}" + (f"; the first {SHOWN} are shown" if tally.done > SHOWN else ""))
    return tally.code(args.wanted)


async def export(letters: DeadLetters, args: Namespace) -> int:
    """Write letters as JSON lines."""
    tally = Tally("exported")
    try:
        with opened(args.file, "x") as file:
            async with aclosing(each(letters, args.wanted, args.limit)) as found:
                async for letter in found:
                    file.write(to_line(letter) + "\n")
                    tally.note(args.wanted, [letter], [None])
    finally:
        remark(str(tally))
    return tally.code(args.wanted)


async def import_(letters: DeadLetters, args: Namespace) -> int:
    """Add the letters of JSON lines to the dead letters."""
    tally = Tally("imported", args.format)
    try:
        with opened(args.file, "r") as file:
            lines = read(file)
            while portion := list(islice(lines, IMPORT_PORTION)):
                tally.note(Wanted(), portion, await letters.add(portion))
    finally:
        tally.tell()
    return tally.code(Wanted())


@dataclass
class Tally:
    """What became of the letters."""

    verb: str
    format: str = "text"
    done: int = 0
    refused: int = 0
    found: set[str] = field(default_factory=set)

    def note(self, wanted_: Wanted, letters: Sequence[Letter], results: Sequence[str | None]) -> None:
        """Count `letters`, and say why some are still there."""
        before = self.done // PROGRESS_EVERY
        for letter, result in zip(letters, results, strict=True):
            self.found |= wanted_.named(letter)
            if result is None:
                self.done += 1
            else:
                self.refused += 1
                remark(f"{letter.id}: not {self.verb}: {result}")
        if self.done // PROGRESS_EVERY > before:
            remark(f"{self.verb} {self.done} so far")

    def tell(self) -> None:
        """Print the counts, also after a failure: what is done is done."""
        put(
            json.dumps({self.verb: self.done, "refused": self.refused})
            if self.format == "json"
            else str(self)
        )

    def __str__(self) -> str:
        return f"{self.verb} {self.done}" + (f", refused {self.refused}" if self.refused else "")

    def code(self, wanted_: Wanted) -> int:
        """The exit code."""
        if self.refused:
            return EXIT_FAILED
        return missing(wanted_.ids - self.found)


def missing(ids: Collection[str]) -> int:
    """The exit code when there are `ids` that no letter has."""
    if not ids:
        return EXIT_DONE
    remark(f"no letter has the id {', '.join(sorted(ids))}, or another command holds it")
    return EXIT_MISSING


def read(file: TextIO) -> Iterator[Letter]:
    """The letters of the lines. Raises LineError with the number of the line."""
    for number, line in enumerate(file, start=1):
        if line.strip():
            try:
                yield from_line(line)
            except LineError as error:
                raise LineError(f"line {number}: {error}") from error


def opened(name: str, mode: Literal["r", "x"]) -> AbstractContextManager[TextIO]:
    """The file, or stdin and stdout for `-`. What exists is never written over."""
    if name == "-":
        return nullcontext(sys.stdin if mode == "r" else sys.stdout)
    return Path(name).open(mode, encoding="utf-8", errors="surrogateescape")


def put(text: str) -> None:
    """A line of data."""
    sys.stdout.write(text + "\n")


def remark(text: str) -> None:
    """A line for whoever looks on."""
    sys.stderr.write(text + "\n")
