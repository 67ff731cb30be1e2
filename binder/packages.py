"""Say which OS packages are missing; as root install them, otherwise print the one line to run.

Usage: packages.py LIST. Runs on the system's own Python, before any environment exists.
"""

import os
import shutil
import subprocess
import sys


def wanted(path):
    with open(path, encoding="utf-8") as lines:
        return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def is_installed(package):
    answer = subprocess.run(
        ["dpkg-query", "-W", "-f=${Status}", package], capture_output=True, text=True, check=False
    )
    return answer.returncode == 0 and answer.stdout.startswith("install ok installed")


def main(path):
    if shutil.which("dpkg-query") is None:
        print(f"labkit: not a Debian-like system; make sure of: {' '.join(wanted(path))}")
        return 0
    missing = [package for package in wanted(path) if not is_installed(package)]
    if not missing:
        return 0
    line = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
    if os.geteuid() != 0:
        print(f"labkit: some OS packages are missing. As root, run:\n\n    {line}\n")
        print("labkit: going on without them; `labkit doctor` says what each one is good for.")
        return 0
    print(f"labkit: installing OS packages: {' '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    update = subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
    quiet = ["-qq", "-o", "Dpkg::Use-Pty=0", "-o", "Dpkg::Progress-Fancy=0"]
    install = subprocess.run(
        [*line.split(), *quiet], env=environment, stdout=subprocess.DEVNULL, check=False
    )
    if update.returncode or install.returncode:
        print(f"labkit: apt-get failed; by hand: {line}", file=sys.stderr)
        return install.returncode or update.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
