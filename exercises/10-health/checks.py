"""What must hold when the exercise of chapter 10 is done: asked of the engine, from outside."""

from labkit.notebook.grading.checks import check, expect

NAMES = ("anton", "berta", "carla", "doris", "emil")


def hungry_one(world):
    """The container that the patients' cell made hungry for this seed."""
    return NAMES[(world.seed * 7 + 3) % len(NAMES)]


@check(
    title="Level 1: the one that eats is named, stopped and kept",
    points=4,
    cell="level-1",
    hint=[
        "docker stats --no-stream shows the memory of each",
        "docker stop, not docker rm",
    ],
)
def hungry(world):
    guilty = hungry_one(world)
    answer = str(world.answer("hungry")).strip()
    yield expect(
        answer == guilty,
        expected="the container with the most memory",
        found=answer,
        look="docker stats --no-stream",
    )
    stopped = [name for name in NAMES if world.container(name).state == "exited"]
    yield expect(
        stopped == [guilty],
        expected="that one stopped, the other four running",
        found=f"stopped: {', '.join(stopped) or 'none'}",
        look="docker ps -a",
    )


@check(
    title="Level 2: the engine knows that the server hangs",
    points=4,
    cell="level-2",
    hint=[
        "a check must ask what a user asks: fetch the page",
        "a hung server takes the connection: give the check an end with timeout 1 wget …",
        "--health-cmd, --health-interval 1s, --health-retries 2",
    ],
)
def health(world):
    made = world.container("shop")
    check_said = made.details["Config"].get("Healthcheck") or {}
    interval_s = (check_said.get("Interval") or 30_000_000_000) / 1e9
    yield expect(
        bool(check_said.get("Test")) and interval_s <= 2,
        expected="a health check at least every two seconds",
        found=f"one every {interval_s:g} s" if check_said.get("Test") else "no health check",
        look="docker inspect -f '{{json .Config.Healthcheck}}' shop",
    )
    said = [one["Action"] for one in world.events(type="container", container="shop")]
    yield expect(
        "health_status: healthy" in said,
        expected="healthy while it works",
        found="never healthy",
        look="docker events --since 10m --until 0s --filter container=shop",
    )
    now = (made.details["State"].get("Health") or {}).get("Status", "no health")
    hangs = world.exec("shop", ["test", "-e", "/tmp/hang"]).exit_code == 0 if made.running else 0
    yield expect(
        now == "unhealthy" and bool(hangs),
        expected="unhealthy, because it hangs",
        found=f"{now}; it {'hangs' if hangs else 'does not hang'}",
        look="docker ps",
    )


@check(
    title="Level 3: the cause of the loop is known",
    points=2,
    cell="level-3",
    hint=[
        "docker logs loop; docker inspect -f '{{.State.ExitCode}} {{.RestartCount}}' loop",
        "wait until it has given up: docker ps -a says Exited",
    ],
)
def cause(world):
    for name, wanted in (("code", "78"), ("file", "/etc/loop.conf"), ("restarts", "4")):
        answer = str(world.answer(name)).strip()
        yield expect(
            answer == wanted,
            expected=f"the right answer to “{name}”",
            found=answer,
            look="docker logs loop; docker inspect loop",
        )


@check(
    title="Level 3: it runs",
    points=2,
    cell="level-3",
    hint=[
        "docker create, docker cp the file into it, docker start; or a bind mount of a file",
        "the program: docker inspect -f '{{index .Args 1}}' loop",
    ],
)
def runs(world):
    made = world.container("loop-fixed")
    yield expect(made.running, expected="running", found=made.state, look="docker ps -a")
    old, new = world.container("loop").command[-1], made.command[-1]
    yield expect(
        new == old,
        expected="the same program as in loop",
        found="another one",
        look="docker inspect -f '{{index .Args 1}}' loop-fixed",
    )
