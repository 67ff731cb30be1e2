"""What must hold when the exercise of chapter 07 is done: asked of the engine, from outside."""

from labkit.notebook.grading.checks import check, expect

VOLUME = "ledger-data"


def amounts(world):
    """The numbers that the accident's cell wrote for this seed."""
    return [(world.seed * 37 + number * 53) % 90 + 10 for number in range(12)]


def mount_at(container, target):
    """The mount of a container at `target`, or {}."""
    return next((one for one in container.details["Mounts"] if one["Destination"] == target), {})


@check(
    title="Level 1: the data is found",
    points=3,
    cell="level-1",
    hint=[
        "docker rm without -v leaves anonymous volumes behind: docker volume ls -f dangling=true",
        "mount each of them read-only into a small container and list it",
    ],
)
def total(world):
    answer = world.answer("total")
    yield expect(
        answer == sum(amounts(world)),
        expected="the sum of the lines in amounts",
        found=repr(answer),
        look="docker run --rm -v VOLUME:/look:ro busybox cat /look/amounts",
    )


@check(
    title="Level 2: the ledger is back, in a volume with a name",
    points=4,
    cell="level-2",
    hint=[
        "a helper container with two mounts copies from one to the other",
        "cp -a /old/. /new/ and chown -R 1000:1000 /new, as root, once",
        "docker run -d --name ledger --user 1000 -v ledger-data:/var/ledger …",
    ],
)
def back(world):
    made = world.container("ledger")
    yield expect(made.running, expected="running", found=made.state, look="docker ps -a")
    mount = mount_at(made, "/var/ledger")
    yield expect(
        mount.get("Name") == VOLUME and mount.get("RW"),
        expected=f"the volume {VOLUME} at /var/ledger, writable",
        found=f"{mount.get('Name') or mount.get('Source') or 'nothing'} there",
        look="docker inspect -f '{{json .Mounts}}' ledger",
    )
    lines = world.exec("ledger", ["cat", "/var/ledger/amounts"]).stdout.split()
    wanted = [str(amount) for amount in amounts(world)]
    yield expect(
        lines[: len(wanted)] == wanted,
        expected="every line of the old ledger",
        found=f"{len(lines)} lines" if lines else "no file amounts",
        look="docker exec ledger cat /var/ledger/amounts",
    )
    user = str(made.details["Config"]["User"]).partition(":")[0]
    may = world.exec("ledger", ["test", "-w", "/var/ledger/amounts"]).exit_code == 0
    yield expect(
        user == "1000" and may,
        expected="user 1000, who may write there",
        found=f"user {user or '0'}, who {'may' if may else 'may not'} write",
        look="docker exec ledger ls -ln /var/ledger",
    )


@check(
    title="Level 3: the auditor reads and cannot write",
    points=2,
    cell="level-3",
    hint="the same volume once more, with :ro",
)
def auditor(world):
    made = world.container("auditor")
    yield expect(made.running, expected="running", found=made.state, look="docker ps -a")
    mount = mount_at(made, "/audit")
    yield expect(
        mount.get("Name") == VOLUME and not mount.get("RW", True),
        expected=f"the volume {VOLUME} at /audit, read only",
        found=f"{mount.get('Name') or 'nothing'}, {'writable' if mount.get('RW') else 'read only'}",
        look="docker inspect -f '{{json .Mounts}}' auditor",
    )


@check(
    title="Level 3: nothing is left lying about",
    points=1,
    cell="level-3",
    hint="docker volume prune removes anonymous volumes that nobody uses",
)
def tidy(world):
    world.container("auditor")
    names = [one["Name"] for one in world.volumes(dangling="true")]
    yield expect(
        not names,
        expected="no volume that nobody uses",
        found=", ".join(name[:12] for name in names) or "none",
        look="docker volume ls -f dangling=true",
    )
