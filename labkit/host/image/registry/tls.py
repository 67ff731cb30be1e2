"""Whose certificates are believed: the system's authorities and those of `certs.d/HOST:PORT`.

Docker's rules (its documentation, "Verify repository client with certificates"): each `*.crt` is
an authority; `NAME.cert` and `NAME.key` are shown to the registry; either without the other is a
mistake worth saying.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from labkit.base.errors import InvalidParameter

__all__ = ["context_for", "why_refused"]


def context_for(domain: str, folders: Sequence[Path], *, verify: bool) -> ssl.SSLContext | bool:
    """What aiohttp's `ssl` argument takes: True and False are its own defaults.

    Raises InvalidParameter naming the file that cannot be used.
    """
    folder = next((path for base in folders if (path := base / domain).is_dir()), None)
    if folder is None:
        return verify
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in sorted(folder.iterdir()):
        try:
            if path.suffix == ".crt":
                context.load_verify_locations(path)
            elif path.suffix == ".cert":
                context.load_cert_chain(path, _partner(path, ".key"))
            elif path.suffix == ".key":
                _partner(path, ".cert")
        except (OSError, ssl.SSLError) as error:
            raise InvalidParameter(f"cannot use certificate {path}: {error}") from error
    return context


def _partner(path: Path, suffix: str) -> Path:
    other = path.with_suffix(suffix)
    if not other.exists():
        raise InvalidParameter(
            f"missing {other.name} for {path.name} in {path.parent}",
            hint="a client certificate and its key lie side by side; authorities end in .crt",
        )
    return other


def why_refused(error: ssl.SSLCertVerificationError) -> str:
    """The refusal in the words of Go's verifier, which students find when they look them up."""
    code = error.verify_code
    if code in (18, 19, 20, 21):  # self-signed, unknown issuer (X509_V_ERR_…, openssl-verify(1))
        return "x509: certificate signed by unknown authority"
    if code in (9, 10):
        return "x509: certificate has expired or is not yet valid"
    return f"x509: {error.verify_message}"
