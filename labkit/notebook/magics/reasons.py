# ruff: noqa: E501  (one sentence per line reads best unbroken)
"""One sentence for each step of a container's start: why it exists.

Keys are the names that the native core and this client give their steps; `reason` falls back to
the system call for steps named after what they mount.
"""

from __future__ import annotations

__all__ = ["REASONS", "reason"]

REASONS: dict[str, str] = {
    # the client, in the notebook's kernel
    "look for the image": "The client asks whether the image is here before it tries to create anything.",
    "pull the image": "The image is not here yet: its layers are fetched (or built, for a stand-in) and stored by digest.",
    "create the container": "A container is first only a record and a writable layer: nothing runs yet.",
    "attach to its output": "The client connects before the start, so that not even the first byte of output is lost.",
    "wait for the end": "The client asks early to be told the exit code, or a fast container would be gone first.",
    "start the container": "Now the daemon has a process made; this request lasts until the program has been executed.",
    "create the exec": "An exec is a second process for a running container, recorded before it is started.",
    "start the exec": "The process is made and joins the container's namespaces; its output comes over this connection.",
    "look at the container": "The client reads the container's record, for example to learn its exit code.",
    "ask the daemon": "Every docker command is one or more HTTP requests over the daemon's unix socket.",
    # the daemon
    "prepare": "The engine turns the container's record into one exact specification and starts the shim.",
    # the shim
    "enter the lab host": "The lab's host is a set of namespaces itself; the shim goes in, so that docker0 and /var/lib/docker are where they should be.",
    "create namespaces": "One system call makes the process and its new namespaces together: this is the moment a container begins.",
    "make control groups": "The groups that will count and limit the container are made while, on another core, its root is being built.",
    "open control groups": "An exec joins the container's groups, so that its limits hold for the new process too.",
    "foreign runtime creates": "With `--runtime crun` or `runc` that program makes the container; the shim adopts the process it leaves.",
    "map user ids": "Only somebody outside may say which ids the new user namespace's root stands for.",
    "enter the container": "An exec makes no new namespaces: it joins those of the container's first process.",
    "prepare log and socket": "The shim, not the daemon, owns the output: the daemon may restart and no line is lost.",
    # the child, on its way to becoming the program
    "join cgroups": "From here on memory, processor time and the number of processes are counted and limited.",
    "join namespace": "Namespaces that are shared (with the host or another container) are joined instead of made.",
    "create cgroup namespace": "The container shall see its own group as the root of the cgroup tree, not the path on the host.",
    "enter a network namespace": "Making one is the slowest part of a container's birth, so a fresh one, its loopback already up, waits for the next start.",
    "bring up loopback": "A new network namespace has only `lo`, and even that is switched off.",
    "set host name": "The uts namespace is new, so this changes the name for the container only.",
    "set kernel parameter": "Some parameters under /proc/sys belong to a namespace and can be set for this container alone.",
    "set OOM score": "When memory runs out the kernel chooses a victim by this score.",
    "detach mount propagation": "Without this every mount made below would appear on the host as well.",
    "mount overlay root": "The image's read-only layers and one empty writable layer become a single tree: the container's root.",
    "mount root folder": "The root is a plain folder; it is made a mount of its own, as pivot_root demands.",
    "make device nodes": "A few harmless devices (null, zero, random, tty) are all the hardware a container sees.",
    "link standard names": "Programs expect /dev/stdin and its like; they are links into /proc.",
    "open a terminal": "A pseudo-terminal is made inside the container's own /dev/pts.",
    "make paths read-only": "Parts of /proc and /sys speak for the whole machine; inside they can be read but not written.",
    "mask paths": "Files that would tell secrets of the host are covered by an empty one.",
    "make the root read-only": "`--read-only`: nothing can be written outside the mounts given for it.",
    "pivot_root": "The root is exchanged and the old one detached: unlike after chroot there is no way back.",
    "limit capabilities": "Capabilities dropped from the bounding set can never be gained again, not even by a setuid program.",
    "change user": "The program runs as the user the image or `--user` names, with the groups of that user.",
    "drop capabilities": "Root inside keeps only the fourteen capabilities Docker grants by default.",
    "forbid new privileges": "setuid programs and file capabilities lose their effect for good.",
    "load seccomp filter": "A small program in the kernel now looks at every system call and refuses dangerous ones.",
    "set resource limits": "`--ulimit`: classic per-process limits such as the number of open files.",
    "exec": "The program replaces the setup code: from here on it is the container's first process, PID 1.",
}

_BY_MOUNT = {
    "proc": "A fresh /proc: it shows the processes of the new pid namespace, where the old one showed the host's.",
    "sysfs": "/sys shows devices and interfaces of the network namespace it was mounted in.",
    "tmpfs": "A small file system in memory, gone with the container.",
    "devpts": "Pseudo-terminals of its own: the host's terminals cannot be opened from inside.",
    "mqueue": "POSIX message queues belong to the ipc namespace; this shows the container's own.",
    "cgroup": "Programs inside can read their own limits.",
    "bind": "A file or folder of the host is shown inside at this place.",
}


def reason(name: str, call: str, detail: str = "") -> str:
    """Why the step exists."""
    found = REASONS.get(name)
    if found is not None:
        return found
    words = f"{name} {call} {detail}"
    for kind, sentence in _BY_MOUNT.items():
        if kind in words:
            return sentence
    if "mount" in words:
        return "The new root gets one more of the file systems that programs expect."
    return "A step of the setup between clone and exec."
