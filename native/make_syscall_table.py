"""Write the X-macro table of system calls that names.c includes, from <asm/unistd.h>."""

import re
import subprocess
import sys


def main(compiler: str, output: str) -> None:
    """Ask the preprocessor for every __NR_ macro, so that the numbers are the target machine's."""
    found = subprocess.run(
        [compiler, "-dM", "-E", "-include", "asm/unistd.h", "-x", "c", "/dev/null"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = sorted(set(re.findall(r"^#define __NR_([a-z0-9_]+) ", found, re.MULTILINE)))
    with open(output, "w", encoding="ascii") as table:
        table.writelines(f"LK_SYSCALL({name})\n" for name in names if name != "syscalls")


if __name__ == "__main__":
    main(*sys.argv[1:])
