"""The extension's addresses. Who may use them is decided by Jupyter: its token or cookie, its
protection against forged requests, and the right to use terminals."""

from __future__ import annotations

import importlib.util
import json
from html import escape
from importlib.resources import files
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web

from labkit.base.errors import Conflict, InvalidParameter, LabkitError, NotFound, Unavailable
from labkit.notebook.jupyter import ROUTE
from labkit.notebook.jupyter.request import read_request
from labkit.notebook.jupyter.sessions import Sessions

__all__ = ["add_handlers"]

_SETTLED_WITHIN_S = 3.0
_WAIT_S_MAX = 25.0
_KEY = "labkit_sessions"


def _sessions(settings: dict[str, Any]) -> Sessions:
    """This server's sessions; made with the first use, when Jupyter's own terminals are there."""
    if _KEY not in settings:
        manager = settings.get("terminal_manager")
        if manager is None or not settings.get("terminals_available"):
            raise Unavailable("this Jupyter server has its terminals switched off")
        settings[_KEY] = Sessions(manager)
    found: Sessions = settings[_KEY]
    return found


def _has_terminal_page(serverapp: Any) -> bool:
    """Whether the `notebook` package serves /terminals/NAME, a page with nothing but a terminal."""
    extension = serverapp.extension_manager.extensions.get("notebook")
    return bool(extension and extension.enabled and importlib.util.find_spec("notebook"))


class _Api(APIHandler):
    auth_resource = "terminals"

    def give(self, found: dict[str, Any], status: int = 200) -> None:
        self.set_status(status)
        self.finish(json.dumps(found))

    def refuse(self, error: LabkitError) -> None:
        codes = ((NotFound, 404), (Conflict, 409), (InvalidParameter, 400))
        status = next((code for kind, code in codes if isinstance(error, kind)), 503)
        self.give({"message": error.message, "hint": error.hint}, status)


class _Terminals(_Api):
    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Make a terminal. Answers when its container is attached, or has ended already."""
        try:
            session = _sessions(self.settings).create(read_request(self.get_json_body()))
        except LabkitError as error:
            self.refuse(error)
            return
        await session.wait_settled(_SETTLED_WITHIN_S)
        page = url_path_join(self.base_url, ROUTE, "terminals", session.name)
        self.give({**session.describe(), "page": page}, 201)


class _Terminal(_Api):
    @web.authenticated
    @authorized
    async def get(self, name: str) -> None:
        """What is known of a session; `?wait=S` answers when it has ended, at most S seconds on."""
        try:
            session = _sessions(self.settings).get(name)
        except LabkitError as error:
            self.refuse(error)
            return
        try:
            wait_s = min(_WAIT_S_MAX, float(self.get_query_argument("wait", "0")))
        except ValueError:
            self.refuse(InvalidParameter("'wait' is a number of seconds"))
            return
        if wait_s > 0:
            await session.wait_ended(wait_s)
        self.give(session.describe())


class _Leave(_Api):
    @web.authenticated
    @authorized
    def post(self, name: str) -> None:
        """Detach: what ctrl-p ctrl-q does, where the browser keeps those keys for itself."""
        try:
            _sessions(self.settings).get(name).leave()
        except LabkitError as error:
            self.refuse(error)
            return
        self.set_status(204)
        self.finish()


class _Page(JupyterHandler):
    auth_resource = "terminals"

    @web.authenticated
    @authorized
    def get(self, name: str) -> None:
        """The page a cell shows: a line of buttons above Jupyter's own terminal."""
        try:
            session = _sessions(self.settings).get(name).describe()
        except LabkitError as error:
            session = {"name": name, "state": "gone", "text": "", "why": error.hint}
        here = files("labkit.notebook.jupyter")
        facts = {
            "session": session,
            "api": url_path_join(self.base_url, ROUTE, "api", "terminals", name),
            "terminal": url_path_join(self.base_url, "terminals", name)
            if _has_terminal_page(self.serverapp)
            else "",
        }
        page = here.joinpath("terminal.html").read_text(encoding="utf-8")
        page = page.replace("{{script}}", here.joinpath("terminal.js").read_text(encoding="utf-8"))
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        _ = self.xsrf_token  # sets the cookie that the page's requests must repeat
        # Last, because a command may well contain what looks like one of our places.
        self.finish(page.replace("{{facts}}", escape(json.dumps(facts), quote=True)))


def add_handlers(serverapp: Any) -> None:
    """Add the addresses to a server."""
    base = url_path_join(serverapp.web_app.settings["base_url"], ROUTE)
    name = r"(docker_[0-9a-f]{12})"
    serverapp.web_app.add_handlers(
        ".*$",
        [
            (url_path_join(base, "api", "terminals"), _Terminals),
            (url_path_join(base, "api", "terminals", name), _Terminal),
            (url_path_join(base, "api", "terminals", name, "leave"), _Leave),
            (url_path_join(base, "terminals", name), _Page),
        ],
    )
