"""The app: routes of the live page, what they refuse, and the headers that keep it apart."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from fxplain.arguments import NAMES, Form, checked
from fxplain.errors import FxplainError
from fxplain.html.assets_of import asset
from fxplain.html.live import live_page
from fxplain.serving.desk import BusyError, Desk, GoneError

__all__ = ["LOCAL", "create_app"]

LOCAL = ("localhost", "127.0.0.1", "[::1]")
"""Names under which a browser on this machine asks: others (a foreign page's own) are refused."""

SCRIPTS = ("elements.js", "player.js", "recordings.js", "live.js")
"""Parts of the report's own pages, then those of this one."""

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src data: blob:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@checked(desk=Form("a fxplain.serving.Desk", lambda x: isinstance(x, Desk)), hosts=NAMES)
def create_app(desk: Desk, hosts: Sequence[str] = LOCAL) -> Starlette:
    """The live page of one model, as an ASGI application.

    Parameters
    ----------
    desk
        The model, with its limits.
    hosts
        Names under which it may be asked for; ``["*"]`` for any, where something before it checks.

    Examples
    --------
    >>> import fxplain
    >>> from fxplain.demo import digits
    >>> from fxplain.serving import Desk, Limits
    >>> Limits().waiting
    64
    """
    asks: dict[str, Callable[[Any], dict[str, Any]]] = {
        "explain": desk.explain,
        "cut": desk.cut,
        "curve": desk.curve,
        "cells": desk.cells,
        "compare": desk.compare,
        "write": desk.write,
    }

    async def page(_request: Request) -> Response:
        return HTMLResponse(live_page(desk.facts), headers=HEADERS)

    async def report(request: Request) -> Response:
        return await _answered(_report(desk, request.path_params["name"]))

    def question(ask: Callable[[Any], dict[str, Any]]) -> Callable[[Request], Any]:
        async def answered(request: Request) -> Response:
            return await _answered(_asked(desk, request, ask))

        return answered

    async def broken(_request: Request, _error: Exception) -> Response:
        return _refused(500, "something went wrong in the model; the server's log says what.")

    async def unknown(_request: Request) -> Response:
        return _refused(404, "there is no such page.")

    async def otherwise(_request: Request, _error: Exception) -> Response:
        return _refused(405, "this page is not asked in that way.")

    return Starlette(
        routes=[
            Route("/", page),
            Route("/live.css", _asset("text/css", "page.css", "live.css")),
            Route("/live.js", _asset("text/javascript", *SCRIPTS)),
            Route("/report/{name}", report),
            *(Route(f"/{name}", question(ask), methods=["POST"]) for name, ask in asks.items()),
            Route("/{rest:path}", unknown),
        ],
        exception_handlers={405: otherwise, Exception: broken},
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
    )


def _asset(kind: str, *names: str) -> Callable[[Request], Response]:
    start = "const fxplain = {};\n" if kind == "text/javascript" else ""
    text = start + "\n".join(asset(name) for name in names)

    def endpoint(_request: Request) -> Response:
        return Response(text, media_type=kind, headers=HEADERS)

    return endpoint


def _refused(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status, headers=HEADERS)


async def _answered(work: Awaitable[Response]) -> Response:
    """An answer, or what was wrong with the question."""
    try:
        return await work
    except BusyError as error:
        return _refused(503, str(error))
    except GoneError as error:
        return _refused(410, str(error))
    except FxplainError as error:
        return _refused(422, str(error))


async def _report(desk: Desk, name: str) -> Response:
    text = await run_in_threadpool(desk.report, name)
    # the report has a policy of its own, for it opens from disk, too
    kept = {key: value for key, value in HEADERS.items() if key != "Content-Security-Policy"}
    return HTMLResponse(text, headers=kept)


async def _asked(desk: Desk, request: Request, ask: Callable[[Any], dict[str, Any]]) -> Response:
    if (
        request.headers.get("content-type", "").partition(";")[0].strip().lower()
        != "application/json"
    ):
        return _refused(415, "questions are asked as application/json.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > desk.limits.body:
            return _refused(413, f"a question may have {desk.limits.body} bytes.")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return _refused(400, "the question is no JSON.")
    if not isinstance(asked, dict):
        return _refused(400, "a question is a JSON object.")
    told = await run_in_threadpool(ask, asked)
    try:
        return JSONResponse(told, headers=HEADERS)
    except ValueError:
        return _refused(422, "the answer has numbers that are infinite or NaN.")
