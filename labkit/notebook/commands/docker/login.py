"""`login` and `logout`: credentials are tried by the engine, then kept in Docker's config.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.base.errors import CommandError, LabkitError
from labkit.notebook.commands.docker import config_file
from labkit.notebook.commands.docker.config_file import INDEX_SERVER, Credentials, registry_key

if TYPE_CHECKING:
    from labkit.notebook.commands.tree import Call

__all__ = ["login", "logout"]

_NO_TERMINAL = "Error: Cannot perform an interactive login from a non TTY device"
_KEPT_IN_CLEAR = """
WARNING! Your credentials are stored unencrypted in '{path}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/

"""
_EXISTING = """Authenticating with existing credentials...{user}

 Info -> To login with a different account, run 'docker logout' followed by 'docker login'


"""


def login(call: Call) -> None:
    """Authenticate to a registry."""
    server = registry_key(call.args[0] if call.args else "")
    user, password = _given(call)
    if not user and not password:
        known = config_file.credentials_for(server)
        if known is not None and _with_existing(call, known):
            return
    if not user or not password:
        user, password = _asked(call, user, password)
    answer = _try(call, Credentials(server, user, password))
    token = str(answer.get("IdentityToken") or "")
    clear = config_file.stored_in_clear(server)
    if clear is not None and not token:
        call.surface.err(_KEPT_IN_CLEAR.format(path=clear))
    try:
        config_file.store(Credentials(server, user, password, token))
    except CommandError as error:
        raise CommandError(f"Error saving credentials: {error.message}") from None
    _tell(call, answer)


def _given(call: Call) -> tuple[str, str]:
    """User and password of the command line, and the warning about the latter."""
    flags = call.flags
    user, password = str(flags["username"]), str(flags["password"])
    if flags.given("password"):
        if flags["password-stdin"]:
            raise CommandError(
                "conflicting options: cannot specify both --password and --password-stdin"
            )
        if not password:
            raise CommandError("password is empty")
        call.surface.err(
            "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n"
        )
    if flags["password-stdin"]:
        if not user:
            raise CommandError("the --password-stdin option requires --username to be set")
        if call.surface.stdin is None:
            raise CommandError("there is no stdin to read the password from")
        password = call.surface.stdin.read().decode(errors="replace").rstrip("\r\n")
        if not password:
            raise CommandError("password is empty")
    return user, password


def _with_existing(call: Call, known: Credentials) -> bool:
    """Try what is kept already; False when it is no longer good."""
    shown = f" [Username: {known.user}]" if known.user else ""
    call.surface.err(_EXISTING.format(user=shown))
    try:
        answer = _try(call, known)
    except LabkitError:
        call.surface.err("Stored credentials invalid or expired\n")
        return False
    _tell(call, answer)
    return True


def _asked(call: Call, user: str, password: str) -> tuple[str, str]:
    """Ask for what is missing, where somebody can answer."""
    ask_secret = getattr(call.surface, "ask_secret", None)
    if not call.surface.interactive or ask_secret is None:
        raise CommandError(
            _NO_TERMINAL, hint="give -u NAME and pipe the password into --password-stdin"
        )
    if not user:
        user = call.surface.ask("Username: ", flag="--username").strip()
        if not user:
            raise CommandError("username is empty")
    if not password:
        password = ask_secret("Password: ", flag="--password-stdin").strip()
        if not password:
            raise CommandError("password is empty")
    return user, password


def _try(call: Call, found: Credentials) -> dict[str, object]:
    answer = call.client.request("POST", "/auth", json=found.fields()).json()
    return answer if isinstance(answer, dict) else {}


def _tell(call: Call, answer: dict[str, object]) -> None:
    if answer.get("Status"):
        call.surface.out(f"{answer['Status']}\n")


def logout(call: Call) -> None:
    """Log out of a registry: forget its credentials."""
    server = call.args[0] if call.args else INDEX_SERVER
    key = registry_key(server)
    call.surface.out(f"Removing login credentials for {key}\n")
    try:
        config_file.erase(server)
    except CommandError as error:
        call.surface.err(f"WARNING: could not erase credentials:\n{error.message}\n")
