"""What can keep the demo from running."""

from __future__ import annotations


class DemoError(Exception):
    """The demo could not run; the message is one line for the person in front of it."""
