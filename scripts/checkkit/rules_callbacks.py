"""Rules about the webhooks that a project sends, and about who may send to it."""

from __future__ import annotations

import ast
import re

from checkkit.effects import REQUEST
from checkkit.look import Look, catches, is_quiet
from checkkit.nodes import calls_in, dotted, keyword, last_name
from checkkit.rule import Places, in_module
from checkkit.rules_jobs import signature_and_body
from checkkit.scope import Scope

URLS = re.compile(r"(^|_)(url|uri|endpoint|target|callback|hook)$")
OURS = re.compile(r"settings|config|env|slack|discord|teams|pagerduty|telegram", re.IGNORECASE)
GUARDING = re.compile(
    r"valid|check|guard|allow(?!_redirects)|resolve|safe|public|proxy|egress|transport=", re.IGNORECASE
)
SIGNS = re.compile(r"sign|hmac|jwt|svix|standardwebhooks", re.IGNORECASE)
VERIFIES = re.compile(
    r"sign|hmac|verif|compare_digest|construct_event|unwrap|Depends|Security|token|secret|auth", re.IGNORECASE
)
RECEIVES = re.compile(r"receive|handle|incoming|inbound|process|^on_|callback|_webhook$|^webhook$|event")
MANAGES = re.compile(r"create|register|update|delete|list|add|new|subscri|get_|read_|test_|send|deliver")
HTTP_ERRORS = ("HTTPError", "RequestError", "RequestException", "ClientError", "TransportError")


def sendings(look: Look) -> list[tuple[ast.Call, Scope]]:
    """Where a webhook goes to an address that a customer gave."""
    found = []
    for call, scope in look.calls("post", "request", "send", "put"):
        if "webhook" not in f"{look.module.name} {scope.name}".lower() or look.is_route(scope):
            continue
        position = 1 if last_name(call.func) == "request" else 0
        address = keyword(call, "url") or (call.args[position] if len(call.args) > position else None)
        name = dotted(address)
        if URLS.search(name.lower().rpartition(".")[2]) and not OURS.search(name):
            if REQUEST.match(look.target(call, scope)):
                found.append((call, scope))
    return found


@in_module("WHK05", "post", "request", "send", "put")
def anywhere(look: Look) -> Places:
    """A request to any address, also to one inside."""
    if "ipaddress" not in look.project.imported:
        for call, scope in sendings(look):
            if not GUARDING.search(signature_and_body(look, scope)):
                yield call


@in_module("WHK06", "post", "request", "send", "put")
def unsigned(look: Look) -> Places:
    """A webhook that anybody could have sent."""
    sent = [call for call, _ in sendings(look)]
    if sent and not SIGNS.search(look.module.text):
        yield from sent


@in_module("WHK07", "post", "request", "send", "put")
def sent_once(look: Look) -> Places:
    """A webhook whose failure is logged and forgotten."""
    sent = {call for call, _ in sendings(look)}
    for node in look.nodes(ast.Try) if sent else ():
        assert isinstance(node, ast.Try)
        if sent.isdisjoint(calls_in(node.body)) or any(isinstance(s, ast.Return) for s in node.body):
            continue
        for handler in node.handlers:
            wide = handler.type is None or catches(handler, "Exception", "BaseException", *HTTP_ERRORS)
            if wide and all(is_quiet(one) for one in handler.body):
                yield handler


@in_module("WHK08")
def believes_anybody(look: Look) -> Places:
    """A webhook that is taken from anybody."""
    for scope in look.module.scopes:
        if not look.is_route(scope) or "ebhook" not in signature_and_body(look, scope):
            continue
        name = scope.name.rpartition(".")[2].lower()
        posts = any(isinstance(d, ast.Call) and last_name(d.func) == "post" for d in scope.decorators)
        if posts and RECEIVES.search(name) and not MANAGES.match(name):
            routers = " ".join(ast.unparse(c) for c, _ in look.calls("APIRouter", "include_router"))
            if not VERIFIES.search(signature_and_body(look, scope) + routers) and reads(look, scope):
                yield scope.node


def reads(look: Look, scope: Scope) -> bool:
    """Whether a route looks at what came: it takes a model or a dict, or reads the request."""
    made = [look.inference.annotation(one, scope) for one in scope.parameters.values() if one is not None]
    taken = any(look.project.is_model(one) or one in {"dict", "typing.Any"} for one in made)
    return taken or any(last_name(call.func) in {"json", "body", "form"} for call in scope.calls)
