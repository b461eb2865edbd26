"""Submits a job to an API with jobs, follows it to its end, and prints the text as it comes.

    python follow.py http://127.0.0.1:8000/summaries '{"document_id": 1}' --header "X-User: ada"

Ctrl-C cancels the job. Whatever breaks in between, the job is there once, and no piece of text is missing or
comes twice. Exit codes: 0 succeeded, 1 not, 130 cancelled by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2

PATIENCE = 60.0  # seconds without any answer
PAUSE = 0.5
AGAIN = {409, 429, 500, 502, 503, 504}


class Gone(Exception):
    """The server could not be reached for too long, or it does not want us."""


class JobClient:
    """A caller of the jobs API; `headers` say who it is."""

    def __init__(self, headers: dict[str, str]) -> None:
        # The server pings an idle stream each 15 s: what is silent for longer is broken.
        self.http = httpx2.Client(headers=headers, timeout=30)

    def ask(self, method: str, url: str, **options: Any) -> httpx2.Response:
        """An answer, asked for again while the server is away or busy. Raises Gone."""
        ends = time.monotonic() + PATIENCE
        while True:
            pause, problem = PAUSE, "no answer"
            try:
                response = self.http.request(method, url, **options)
                if response.status_code not in AGAIN:
                    break
                pause = float(response.headers.get("Retry-After", PAUSE))
                problem = f"{response.status_code} {response.text}"
            except httpx2.TransportError as error:
                problem = str(error)
            if time.monotonic() > ends:
                raise Gone(problem)
            time.sleep(pause)  # this program has nothing else to do; in an event loop: asyncio.sleep
        if response.is_error:
            raise Gone(f"{response.status_code} {response.text}")
        return response

    def submit(self, url: str, body: object) -> str:
        """The URL of a new job. The key is the same on each attempt: a repeat gets the first one's answer."""
        # worker: ignore[CON06] here a request begins, and its repeats below carry the same key
        headers = {"Idempotency-Key": f'"{uuid.uuid4()}"'}
        accepted = self.ask("POST", url, json=body, headers=headers)
        return str(httpx2.URL(url).join(accepted.headers["Location"]))

    def cancel(self, job: str) -> None:
        """Cancel a job. Done twice it makes no difference; one that has ended stays as it is (409)."""
        self.http.post(f"{job}/cancel")

    def follow(self, job: str) -> Iterator[tuple[str, Any]]:
        """Type and data of each event, once and in order, over any number of connections. Raises Gone."""
        last, ends = "", time.monotonic() + PATIENCE
        while True:
            try:
                headers = {"Last-Event-ID": last} if last else {}
                with self.http.stream("GET", f"{job}/events", headers=headers) as response:
                    if response.is_client_error:
                        raise Gone(str(response.status_code))
                    for event in events(response.raise_for_status()):
                        last, ends = event["id"], time.monotonic() + PATIENCE
                        yield event["event"], json.loads(event["data"])
                        if event["event"] == "end":
                            return
            except httpx2.HTTPError as error:
                if time.monotonic() > ends:
                    raise Gone(str(error)) from error
            time.sleep(PAUSE)  # as above


def events(response: httpx2.Response) -> Iterator[dict[str, str]]:
    """The server-sent events of an answer that have data; one that was cut off is left out."""
    found: dict[str, str] = {}
    rest = b""
    for chunk in response.iter_bytes():
        # Not `iter_lines`: it takes characters inside of a text for the end of a line.
        *lines, rest = (rest + chunk).split(b"\n")
        for line in (raw.decode().rstrip("\r") for raw in lines):
            name, _, value = line.partition(": ")
            if line:
                found[name] = value
                continue
            if "data" in found:
                yield {"event": "message", "id": "", **found}
            found = {}


def main() -> int:
    """Submit, follow, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="the route that accepts the job")
    parser.add_argument("body", type=json.loads, help="what to send there, as JSON")
    parser.add_argument("--header", action="append", default=[], help='"Name: value", may be repeated')
    args = parser.parse_args()
    client = JobClient({name: value for name, _, value in (text.partition(": ") for text in args.header)})
    job, end = client.submit(args.url, args.body), {}
    try:
        for kind, data in client.follow(job):
            if kind == "started" and data["attempt"] > 1:
                sys.stdout.write("\n-- from the beginning --\n")
            elif kind == "delta":
                sys.stdout.write(data["text"])
            end = data
            sys.stdout.flush()
    except KeyboardInterrupt:
        client.cancel(job)
        return 130
    except Gone as error:
        sys.stderr.write(f"{job}: {error}\n")
        return 1
    sys.stderr.write(f"\n{end['state']} {end['error'] or ''}\n")
    return 0 if end["state"] == "succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
