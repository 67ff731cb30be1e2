"""One container at a time: what the kernel is asked for, by whom, and how it is undone.

`spec` says what a container is; `runtime` starts it through the C core (native/); `cgroups`,
`capabilities` and `seccomp` decide what it may use; `anchor` holds the lab host's namespaces and
`box` is a container built by hand. `probe` finds out which of this the machine allows.
"""
