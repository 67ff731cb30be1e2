"""Doing things inside another network namespace, from one thread made for it.

setns(2) moves the calling thread only. A single worker enters the namespace, acts (makes a socket,
sends a batch of netlink messages, writes a sysctl) and comes home again, so the event loop's own
thread never stands in a strange place, and never waits for the kernel's RTNL lock, which the
destruction of a namespace holds for tens of milliseconds.

A socket belongs to the namespace it was made in for ever, whoever uses it later.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from labkit.base.errors import SystemFailure

__all__ = ["CLONE_NEWNET", "NamespaceWorker", "entered", "open_namespace"]

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def open_namespace(pid: int) -> int:
    """A descriptor of the network namespace of process `pid`; the caller closes it.

    Raises SystemFailure when the process has ended.
    """
    try:
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SystemFailure(
            f"cannot enter the network namespace of process {pid}: {error.strerror}"
        ) from error


def _set(descriptor: int) -> None:
    if _LIBC.setns(descriptor, CLONE_NEWNET) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot enter a network namespace: {os.strerror(code)}")


@contextlib.contextmanager
def entered(namespace: int | None) -> Iterator[None]:
    """The calling thread is inside `namespace` (a descriptor; None: stays where it is)."""
    if namespace is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set(namespace)
        try:
            yield
        finally:
            # A thread that cannot come home would do everybody else's work in the wrong place.
            _set(home)
    finally:
        os.close(home)


def _may_come_home() -> bool:
    """Whether this thread, once elsewhere, may return to where it is. An ordinary user's daemon may
    not: it is root of the lab's user namespace, and the machine's network belongs to another."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set(home)
    except OSError:
        return False
    finally:
        os.close(home)
    return True


def _on_a_thread_that_stays(namespace: int, work: Callable[[], T]) -> T:
    """`work()` on a thread that enters the namespace and ends there."""

    def inside() -> T:
        _set(namespace)
        return work()

    with ThreadPoolExecutor(1, thread_name_prefix="labkit-inside") as once:
        return once.submit(inside).result()


class NamespaceWorker:
    """One thread that works inside namespaces, in the order it was asked."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="labkit-network")

    async def run(self, namespace: int | None, work: Callable[[], T]) -> T:
        """`work()` inside `namespace`; it runs to its end even if the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, self.run_nowait, namespace, work
        )

    @staticmethod
    def run_nowait(namespace: int | None, work: Callable[[], T]) -> T:
        """The same, waited for. It may run on a thread of its own."""
        if namespace is None:
            return work()
        if _may_come_home():
            with entered(namespace):
                return work()
        return _on_a_thread_that_stays(namespace, work)

    def close(self) -> None:
        """End the thread once its queue is empty."""
        self._pool.shutdown(wait=True)
