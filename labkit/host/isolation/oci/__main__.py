"""`python -m labkit.host.isolation.oci`: the same as the console script labkit-oci."""

import sys

from labkit.host.isolation.oci.command import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
