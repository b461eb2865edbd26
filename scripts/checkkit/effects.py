"""Calls that reach somebody outside: mail, payments, other people's servers."""

from __future__ import annotations

import re

from checkkit.facts import FunctionFact
from checkkit.project import Project

OUTSIDE = re.compile(
    r"^(smtplib|aiosmtplib|sendgrid|resend|stripe|fastapi_mail|twilio|mailjet|postmarker)\.|^(requests|httpx2?)\.(post|put|patch|delete)$"
    r"|^(httpx2?\.(Async)?Client|requests\.(sessions\.)?[Ss]ession)(\(\))?\.(post|put|patch|delete)$"
)
REQUEST = re.compile(
    r"^(requests|httpx2?)\.(get|post|put|patch|delete|request|stream)$"
    r"|^(httpx2?\.(Async)?Client|requests\.(sessions\.)?[Ss]ession|aiohttp\.(client\.)?ClientSession)(\(\))?"
    r"\.(get|post|put|patch|delete|request|send|stream)$"
)


def effect_of(project: Project, function: FunctionFact | None) -> str:
    """What a function, or one that it calls, does outside, and where; empty when it is not seen to."""
    for inner, one in project.reach(function) if function else ():
        if OUTSIDE.match(project.canonical(one.target)):
            return f"{one.target} in {inner.name}, {inner.path}:{one.line}"
    return ""
