"""`python -m labkit.daemon`: become the daemon of this lab.

The order is the point: folders, lock, sockets, then an answer to `/_ping`, and only then the
imports that take long. Everything imported at the top of this file is paid for before the first
client can connect.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.base.errors import InvalidParameter, LabkitError
from labkit.base.paths import LabPaths
from labkit.daemon import process, sockets

if TYPE_CHECKING:
    import socket

    from labkit.daemon.options import Options

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to stop; the exit code of the process.

    0 also when another daemon already serves this lab: what was wanted is so.
    """
    from labkit.daemon.options import parse

    options = parse(sys.argv[1:] if argv is None else argv)
    paths = LabPaths.from_environment()
    report = process.detach(wanted=options.detach)
    try:
        return _become(options, paths, report)
    except process.AlreadyRunning as error:
        report(0, error.message)
        if not options.detach:
            print(error.message, file=sys.stderr)
        return 0
    except LabkitError as error:
        text = f"labkitd: {error.message}" + (f"\n  try: {error.hint}" if error.hint else "")
        report(error.exit_code, text)
        print(text, file=sys.stderr)
        return error.exit_code


def _become(options: Options, paths: LabPaths, report: process.Report) -> int:
    gid = None
    if options.group is not None:
        if os.geteuid() != 0:
            raise InvalidParameter(
                "cannot share the Docker socket with a group: that needs root",
                hint="without root the lab is yours alone; leave --group away",
            )
        gid = sockets.group_id(options.group)
    paths.prepare()
    lock = process.take_lock(paths)
    if gid is not None:
        # The group must be able to reach docker.sock, and nothing else in the folder.
        os.chown(paths.run, -1, gid)
        paths.run.chmod(0o710)
    try:
        listeners = {
            "docker": sockets.listen_unix(paths.docker_socket, gid=gid),
            "lab": sockets.listen_unix(paths.lab_socket),
        }
        process.write_pid(paths)
        return _serve(options, paths, listeners, report)
    finally:
        process.forget(paths)
        os.close(lock)


def _serve(
    options: Options,
    paths: LabPaths,
    listeners: dict[str, socket.socket],
    report: process.Report,
) -> int:
    # A user namespace can only be entered while there is a single thread (setns(2)), so without
    # root the lab host comes before the thread that answers pings.
    ground = None
    if os.geteuid() != 0:
        from labkit.daemon.ground import prepare_ground

        ground = prepare_ground(paths, options.mode)

    from labkit.daemon.doorman import Doorman

    doorman = Doorman(list(listeners.values()))
    report(0)

    from labkit.daemon.logs import start_logging

    start_logging(paths.daemon_log, level=options.log_level, to_stderr=not options.detach)
    import logging

    try:
        if ground is None:
            from labkit.daemon.ground import prepare_ground

            ground = prepare_ground(paths, options.mode)
        from labkit.daemon.server import serve

        # What the imports left behind lives as long as the daemon: never walk through it again.
        gc.collect()
        gc.freeze()
        return serve(paths, ground, doorman, listeners)
    except LabkitError as error:
        logging.getLogger("labkit.daemon").error("cannot serve: %s", error)
        raise
    except Exception:
        logging.getLogger("labkit.daemon").exception("cannot serve")
        raise


if __name__ == "__main__":
    sys.exit(main())
