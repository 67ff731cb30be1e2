"""Write the C source of labkit.host.isolation._core; core.h is its only declaration."""

import sys

from cffi import FFI


def main(header: str, output: str) -> None:
    """cdef() takes no preprocessor lines, which is why core.h has none besides its guard."""
    with open(header, encoding="utf-8") as source:
        lines = [line for line in source if not line.startswith("#")]
    builder = FFI()
    builder.cdef("".join(lines))
    builder.set_source("labkit.host.isolation._core", '#include <stdint.h>\n#include "core.h"')
    builder.emit_c_code(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
