"""`python -m labkit.daemon.registry_api`: a registry as a process of its own.

The environment variables of the reference registry that the course uses are understood too
(`REGISTRY_HTTP_ADDR`, `REGISTRY_AUTH_HTPASSWD_PATH`, …); a flag wins over its variable. It ends at
SIGTERM, says each request on stderr and prints the address once it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import ssl
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from aiohttp import web

from labkit.base.errors import InvalidParameter, LabkitError, SystemFailure
from labkit.daemon.registry_api.accounts import Accounts
from labkit.daemon.registry_api.app import build_registry_app
from labkit.daemon.registry_api.storage import Storage

__all__ = ["main", "options_from"]

_FALSE = ("", "0", "false", "no")


def options_from(argv: Sequence[str], environ: Mapping[str, str]) -> argparse.Namespace:
    """Flags, then the reference registry's variables, then its defaults."""
    parser = argparse.ArgumentParser(
        prog="labkit-registry", description="A registry of images below one folder."
    )
    parser.add_argument(
        "--listen", default=environ.get("REGISTRY_HTTP_ADDR", ":5000"), metavar="[HOST]:PORT"
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=environ.get("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/var/lib/registry"),
    )
    parser.add_argument(
        "--htpasswd",
        type=Path,
        default=environ.get("REGISTRY_AUTH_HTPASSWD_PATH") or None,
        help="ask for a name and password; a file of bcrypt entries",
    )
    parser.add_argument(
        "--realm", default=environ.get("REGISTRY_AUTH_HTPASSWD_REALM", "Registry Realm")
    )
    parser.add_argument(
        "--tls-cert", type=Path, default=environ.get("REGISTRY_HTTP_TLS_CERTIFICATE") or None
    )
    parser.add_argument(
        "--tls-key", type=Path, default=environ.get("REGISTRY_HTTP_TLS_KEY") or None
    )
    parser.add_argument(
        "--no-delete",
        action="store_true",
        default=environ.get("REGISTRY_STORAGE_DELETE_ENABLED", "true").lower() in _FALSE,
    )
    parser.add_argument(
        "--collect-garbage",
        action="store_true",
        help="remove content that no repository has, then end; not while it is served",
    )
    return parser.parse_args(argv)


def _address(text: str) -> tuple[str | None, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise InvalidParameter(f"cannot listen on {text}: it is not [HOST]:PORT")
    return host.strip("[]") or None, int(port)


def _tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    if options.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidParameter(f"cannot use certificate {options.tls_cert}: {error}") from error
    return context


async def _serve(options: argparse.Namespace) -> None:
    host, port = _address(options.listen)
    try:
        storage = Storage(options.root)
    except OSError as error:
        raise SystemFailure(f"cannot use {options.root}: {error.strerror}") from error
    accounts = Accounts(options.htpasswd, options.realm) if options.htpasswd else None
    app = build_registry_app(storage, accounts=accounts, can_delete=not options.no_delete)
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=_tls(options))
        try:
            await site.start()
        except OSError as error:
            raise SystemFailure(f"cannot listen on {options.listen}: {error.strerror}") from error
        bound = runner.addresses[0]
        print(f"listening on {bound[0]}:{bound[1]}", flush=True)
        await over.wait()
    finally:
        await runner.cleanup()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal; the exit status is returned."""
    options = options_from(sys.argv[1:] if argv is None else argv, os.environ)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        if options.collect_garbage:
            for digest in Storage(options.root).collect():
                print(f"blob eligible for deletion, removed: {digest}")
            return 0
        asyncio.run(_serve(options))
    except LabkitError as error:
        print(f"labkit-registry: {error}", file=sys.stderr)
        if error.hint:
            print(f"  next: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
