"""Rules about webhooks, received and sent."""

from __future__ import annotations

import ast

from checkkit.look import Look, catches
from checkkit.nodes import calls_in, constant, dotted, keyword, lacks, last_name
from checkkit.rule import Places, in_module
from checkkit.scope import Scope

DIGESTS = {"hexdigest", "digest"}


@in_module("WHK01")
def compared_openly(look: Look) -> Places:
    """A signature compared with `==`."""
    for node in look.nodes(ast.Compare):
        assert isinstance(node, ast.Compare)
        if not isinstance(node.ops[0], ast.Eq | ast.NotEq):
            continue
        scope = look.scope(node)
        sides = [node.left, node.comparators[0]]
        other = any(constant(side) is not ... for side in sides)
        if not other and any(is_mac(look, side, scope) for side in sides):
            yield node


def is_mac(look: Look, node: ast.expr, scope: Scope) -> bool:
    """Whether a value is the digest of an HMAC."""
    if isinstance(node, ast.Name):
        return any(
            is_mac(look, v, scope) for v in scope.binds.get(node.id, []) if not isinstance(v, ast.Name)
        )
    if isinstance(node, ast.JoinedStr | ast.BinOp):
        return any(is_mac(look, part, scope) for part in parts(node))
    if not isinstance(node, ast.Call):
        return False
    name = look.name(node.func)
    if name == "hmac.digest":
        return True
    if isinstance(node.func, ast.Attribute) and node.func.attr in {*DIGESTS, "decode"}:
        return look.type(node.func.value, scope) in {"hmac.new", "hmac.HMAC"} or (
            node.func.attr == "decode" and is_mac(look, node.func.value, scope)
        )
    return name.startswith("base64.") and any(is_mac(look, a, scope) for a in node.args)


def parts(node: ast.JoinedStr | ast.BinOp) -> list[ast.expr]:
    """What a text is put together from."""
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    return [value.value for value in node.values if isinstance(value, ast.FormattedValue)]


@in_module("WHK02", "new", "verify", "verify_signature", "construct_event")
def written_again(look: Look) -> Places:
    """A signature checked over something else than what came."""
    for call, scope in [*look.calls("new"), *look.calls("verify", "verify_signature", "construct_event")]:
        name = look.name(call.func)
        checks = {last_name(c.func) for c in scope.calls} & {"compare_digest", "verify"}
        if not (name == "hmac.new" and checks) and last_name(call.func) not in {"verify", "construct_event"}:
            continue
        for value in call.args:
            if is_rewritten(value, scope) and (look.is_route(scope) or received(scope)):
                yield call
                break


def received(scope: Scope) -> bool:
    """Whether the function reads a request's JSON."""
    return any(isinstance(c.func, ast.Attribute) and dotted(c.func) == "request.json" for c in scope.calls)


def is_rewritten(node: ast.expr, scope: Scope) -> bool:
    """Whether bytes were made from a parsed object."""
    if isinstance(node, ast.Name):
        return any(
            is_rewritten(v, scope) for v in scope.binds.get(node.id, []) if not isinstance(v, ast.Name)
        )
    return any(
        last_name(c.func) in {"dumps", "model_dump_json"} and isinstance(c.func, ast.Attribute)
        for c in calls_in(node)
    )


@in_module("WHK03", "Client", "AsyncClient", "post", "request", "send")
def follows_redirects(look: Look) -> Places:
    """A webhook that goes where the receiver says."""
    for call, scope in look.calls("Client", "AsyncClient", "post", "request", "send"):
        if sends_webhooks(look, scope) and constant(keyword(call, "follow_redirects")) is True:
            yield call
    for call, scope in look.calls("post", "request"):
        given = call.args and constant(call.args[0]) is ...
        followed = look.name(call.func).startswith("requests.") and lacks(call, "allow_redirects")
        if sends_webhooks(look, scope) and given and followed:
            yield call, "requests follows redirects by default"


def sends_webhooks(look: Look, scope: Scope) -> bool:
    """Whether a function or its class is named after webhooks, and does not receive them."""
    return "webhook" in scope.name.lower() and not look.is_route(scope)


@in_module("WHK04")
def garbage_is_500(look: Look) -> Places:
    """A broken header that becomes a server error."""
    for node in look.nodes(ast.Try):
        assert isinstance(node, ast.Try)
        caught = [h for h in node.handlers if catches(h, "WebhookVerificationError")]
        wide = any(catches(h, "ValueError", "Exception", "BaseException") for h in node.handlers)
        if (
            caught
            and not wide
            and "standardwebhooks" in {n.partition(".")[0] for n in look.module.imports.values()}
        ):
            outer = [p for p in look.module.above(node) if isinstance(p, ast.Try)]
            if not any(catches(h, "ValueError", "Exception") for p in outer for h in p.handlers):
                yield caught[0]
