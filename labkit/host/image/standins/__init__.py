"""Images built offline from what this machine has, labelled as the stand-ins they are.

Nothing here executes what it packs: applets are read from busybox's own table, libraries from ELF
headers, versions from the package manager's records. The same inputs give the same digest.
"""
