"""Is the value of a magic used? `rows = %docker ps` takes rows and shows nothing.

IPython turns that line into `rows = get_ipython().run_line_magic('docker', 'ps')`, so the answer
stands in the bytecode right behind the call: a value that is dropped, or that the cell would only
print, is not used.
"""

from __future__ import annotations

import dis
import sys
from types import FrameType

__all__ = ["is_result_used"]

_DROPPED = {"POP_TOP", "PRINT_EXPR"}
_NO_OPERATION = {"CACHE", "EXTENDED_ARG", "NOP"}
_CALLS = ("run_line_magic", "run_cell_magic")


def is_result_used(frame: FrameType | None = None) -> bool:
    """Whether whoever called the magic keeps its value. `frame` is only for tests."""
    caller = frame if frame is not None else _caller()
    if caller is None:
        return False
    following = _instruction_after(caller)
    if following is None:
        return False
    name, argument = following
    if name in _DROPPED or (name == "CALL_INTRINSIC_1" and argument == "INTRINSIC_PRINT"):
        return False
    # `%time %docker ps` evaluates an expression: nobody keeps the value there either.
    return not (name.startswith("RETURN") and caller.f_code.co_name == "<module>")


def _caller() -> FrameType | None:
    """The frame that called `run_line_magic` or `run_cell_magic` most recently."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in _CALLS:
            frame = frame.f_back
            # IPython's own wrappers (run_line_magic called by %time and the like) are skipped.
            while frame is not None and frame.f_code.co_name in _CALLS:
                frame = frame.f_back
            return frame
        frame = frame.f_back
    return None


def _instruction_after(frame: FrameType) -> tuple[str, str] | None:
    # f_lasti stands on the call or on its inline cache, depending on Python's version.
    for instruction in dis.get_instructions(frame.f_code):
        if instruction.offset > frame.f_lasti and instruction.opname not in _NO_OPERATION:
            return instruction.opname, instruction.argrepr
    return None
