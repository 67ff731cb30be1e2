"""What must hold when the exercise of chapter 03 is done: asked of the kernel, from outside."""

from labkit.notebook.grading.checks import check, expect

MEMORY = 64 * 1024 * 1024
PIDS = 24
PAGE = "the page you need"


def need_limits(world):
    """A machine that cannot enforce a limit is no student's fault."""
    holds = {limit["name"]: limit["holds"] for limit in world.status().get("limits", [])}
    for name in ("memory", "pids"):
        if not holds.get(name, False):
            raise world.not_gradable(f"this machine enforces no {name} limits")


def serves(world):
    """Whether the page is there: a confined program that does not work is no solution."""
    answer = world.exec("suspect", ["wget", "-qO-", "http://127.0.0.1:8080/"])
    return expect(
        PAGE in answer.output,
        expected=f"a page that says “{PAGE}”",
        found=answer.output.strip()[:200] or "nothing",
        look="docker exec suspect wget -qO- 127.0.0.1:8080",
    )


@check(
    title="Level 1: it cannot take everything, and still serves its page",
    points=3,
    cell="confine",
    hint=[
        "two limits of chapter 03, section 6",
        "--memory 64m --pids-limit 24",
    ],
)
def limits(world):
    need_limits(world)
    held = world.confinement("suspect")["cgroup"]
    memory, pids = held["memory"]["limit_bytes"], held["pids"]["limit"]
    yield serves(world)
    yield expect(
        0 < memory <= MEMORY,
        expected="at most 64 MiB of memory",
        found=f"{memory} bytes" if memory else "no limit",
        look="docker stats --no-stream suspect",
    )
    yield expect(
        0 < pids <= PIDS,
        expected="at most 24 processes",
        found=str(pids or "no limit"),
        look="docker inspect -f '{{.HostConfig.PidsLimit}}' suspect",
    )


@check(
    title="Level 2: it cannot change what is not its own",
    points=4,
    cell="confine",
    hint=[
        "it writes to /bin: close the whole root, and give it a scratch folder",
        "--read-only --tmpfs /tmp",
        "--user 1000 and --security-opt no-new-privileges",
    ],
)
def files(world):
    yield serves(world)
    root = world.exec("suspect", ["grep", " / ", "/proc/mounts"]).stdout.split()
    closed = len(root) > 3 and "ro" in root[3].split(",")
    yield expect(
        closed,
        expected="a read-only root file system",
        found="read-only" if closed else "a root that can be written",
        look="docker exec -u 0 suspect touch /bin/x",
    )
    held = world.confinement("suspect")
    yield expect(
        held["uid"] != 0,
        expected="not root",
        found=f"user {held['uid']}",
        look="docker exec suspect id",
    )
    yield expect(
        held["no_new_privs"],
        expected="no new privileges",
        found="set-user-id programs may raise rights",
        look="docker exec suspect grep NoNewPrivs /proc/1/status",
    )


@check(
    title="Level 3: it can ask the kernel for nothing special",
    points=3,
    cell="confine",
    hint=[
        "an ordinary user holds no capability, but the bounding set is the reserve",
        "--cap-drop ALL; and leave the filter as it is",
    ],
)
def kernel(world):
    yield serves(world)
    held = world.confinement("suspect")
    left = sorted({name for one in held["capabilities"].values() for name in one})
    yield expect(
        not left,
        expected="no capability in any set",
        found=", ".join(left) or "none",
        look="docker exec suspect grep Cap /proc/1/status",
    )
    yield expect(
        held["seccomp"]["mode"] == "filter",
        expected="a seccomp filter",
        found=held["seccomp"]["mode"],
        look="docker exec suspect grep Seccomp /proc/1/status",
    )


@check(
    title="Level 3: you know both walls",
    points=2,
    cell="answers",
    hint=[
        "%lab verdict suspect mount names the capability",
        "the table of errors in section 5; and what did mkdir get from the filter in section 4?",
    ],
)
def walls(world):
    capability = str(world.answer("capability")).upper().removeprefix("CAP_")
    yield expect(
        capability == "SYS_ADMIN",
        expected="the capability that guards mounting",
        found=capability,
        look="%lab verdict suspect mount",
    )
    error = str(world.answer("error")).upper()
    yield expect(
        error == "EPERM",
        expected="what a filter answers where it refuses",
        found=error,
        look="section 4 of the chapter: the policy without mkdir",
    )
