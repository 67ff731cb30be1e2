"""What must hold when the exercise of chapter 01 is done: asked of the kernel, from outside."""

from labkit.notebook.grading.checks import check, expect

MEMORY = 32 * 1024 * 1024


def has_own(box, kind):
    """Whether a box's namespace of one kind differs from the host's."""
    return box["namespaces"][kind] != box["host_namespaces"][kind]


def own(world, kind):
    """The jail's namespace of one kind must differ from the host's."""
    isolated = has_own(world.box("jail"), kind)
    return expect(
        isolated,
        expected=f"a {kind} namespace of its own",
        found="its own" if isolated else "the host's",
        look="evaluate jail in a cell: its tile must be blue",
    )


def need_limits(world):
    """A machine that cannot enforce a limit is no student's fault."""
    holds = {limit["name"]: limit["holds"] for limit in world.status().get("limits", [])}
    for name in ("memory", "pids"):
        if not holds.get(name, False):
            raise world.not_gradable(f"this machine enforces no {name} limits")


@check(
    title="Level 1: the jail has a host name of its own",
    points=2,
    cell="level-1",
    hint=[
        "which tile of the box must be blue before a name can be changed safely?",
        'jail.unshare("uts") comes before jail.sethostname("jail")',
    ],
)
def hostname(world):
    yield own(world, "uts")
    box = world.box("jail")
    # Without a namespace of its own the name is the host's: renaming the host earns nothing.
    yield expect(
        has_own(box, "uts") and box["hostname"] == "jail",
        expected="host name jail, its own",
        found=box["hostname"] if has_own(box, "uts") else f"the host's name, {box['hostname']}",
        look='jail.run("hostname")',
    )


@check(
    title="Level 2: the jail sees only its own processes",
    points=2,
    cell="level-2",
    hint=[
        "ps reads /proc; whose /proc is it?",
        "unshare pid and mnt, then mount a fresh proc on the new root's /proc, before pivot_root",
    ],
)
def processes(world):
    yield own(world, "pid")
    yield own(world, "mnt")
    box = world.box("jail")
    yield expect(
        has_own(box, "mnt") and "/proc" in box["mounts"],
        expected="a fresh proc mounted at /proc",
        found=(", ".join(box["mounts"]) or "no mounts") if has_own(box, "mnt") else "the host's",
        look='jail.run("cat /proc/mounts")',
    )


@check(
    title="Level 2: no way back to the host's files",
    points=2,
    cell="level-2",
    hint=[
        "chroot leaves the old root in place: section 1 of the chapter climbs out of it",
        "bind-mount the tree on itself, then jail.pivot_root(tree)",
    ],
)
def root(world):
    box = world.box("jail")
    leftovers = [
        target
        for target in box["mounts"]
        if not target.startswith(("/proc", "/dev", "/sys", "/tmp")) and target != "/"
    ]
    yield expect(
        box["pivoted"],
        expected="a root of its own, reached with pivot_root",
        found="the host's root mount, or only a chroot",
        look='jail.run("cat /proc/mounts")',
    )
    yield expect(
        box["pivoted"] and not leftovers,
        expected="nothing of the host still mounted",
        found=", ".join(leftovers) or "nothing",
        look='jail.run("cat /proc/mounts")',
    )


@check(
    title="Level 2: a network with nothing but a working lo",
    points=1,
    cell="level-2",
    hint="a new network namespace has lo switched off: lo_up",
)
def network(world):
    yield own(world, "net")
    box = world.box("jail")
    yield expect(
        box["interfaces"] == ["lo"] and box.get("lo_up", False),
        expected="lo alone, up",
        found=", ".join(box["interfaces"]) + ("" if box.get("lo_up") else " (lo is down)"),
        look='jail.run("ip link")',
    )


@check(
    title="Level 3: the limits hold",
    points=2,
    cell="level-3",
    hint=[
        'jail.cgroup(memory="32m", pids=20)',
        "limits are read from the kernel, not from what was asked for",
    ],
)
def limits(world):
    group = world.box("jail")["cgroup"]
    need_limits(world)
    memory, pids = group.get("memory_limit_bytes"), group.get("pids_limit")
    yield expect(
        memory is not None and 0 < memory <= MEMORY,
        expected="at most 32 MiB of memory",
        found="no limit" if not memory else f"{memory} bytes",
        look="jail.limits()",
    )
    yield expect(
        pids is not None and 0 < pids <= 20,
        expected="at most 20 processes",
        found="no limit" if not pids else str(pids),
        look="jail.limits()",
    )


@check(
    title="Level 3: the hog was killed by the limit, and you know its exit code",
    points=2,
    cell="level-3",
    hint=["the cgroup counts how often it has killed", "128 plus the number of the signal"],
)
def killed(world):
    group = world.box("jail")["cgroup"]
    need_limits(world)
    yield expect(
        (group.get("oom_kills") or 0) >= 1,
        expected="at least one kill by the memory limit",
        found=f"{group.get('oom_kills') or 0} kills",
        look="jail.limits()",
    )
    answer = world.answer("exit-code")
    yield expect(
        answer == 137,
        expected="the exit code of a process ended by SIGKILL",
        found=repr(answer),
        look="the exit_code of what jail.run returned",
    )


@check(
    title="Level 3: docker makes the same container",
    points=2,
    cell="docker",
    hint=["docker run -d --name twin …", "the flags are --hostname, --memory and --pids-limit"],
)
def twin(world):
    made = world.container("twin")
    yield expect(made.running, expected="running", found=made.state, look="docker ps -a")
    host = made.details["HostConfig"]
    yield expect(
        made.details["Config"]["Hostname"] == "jail",
        expected="host name jail",
        found=made.details["Config"]["Hostname"],
        look="docker exec twin hostname",
    )
    yield expect(
        0 < made.memory_bytes <= MEMORY,
        expected="at most 32 MiB of memory",
        found=f"{made.memory_bytes} bytes" if made.memory_bytes else "no limit",
        look="docker inspect -f '{{.HostConfig.Memory}}' twin",
    )
    yield expect(
        0 < (host.get("PidsLimit") or 0) <= 20,
        expected="at most 20 processes",
        found=str(host.get("PidsLimit") or "no limit"),
        look="docker inspect -f '{{.HostConfig.PidsLimit}}' twin",
    )
