"""What must hold when the exercise of chapter 02 is done."""

import random

from labkit.notebook.grading.checks import check, expect

FLOWERS = ("aster", "bluebell", "crocus", "daisy", "elder", "foxglove", "gentian", "heather")


def plan(seed):
    """The same draw as the exercise's own set-up cell makes."""
    dice = random.Random(seed)
    names = list(FLOWERS)
    dice.shuffle(names)
    return {
        "treasure": names[0],
        "number": dice.randrange(1000, 10000),
        "polite": names[1],
        "failed": (names[2], names[3]),
        "finished": names[4],
        "keep": (names[5], names[6]),
        "spare": names[7],
    }


def is_set_up(world, drawn):
    """Whether the containers that must survive are there: an untouched lab earns nothing."""
    return all(world.find(name) is not None for name in drawn["keep"])


@check(
    title="Level 1: the container that prints the treasure is found",
    points=2,
    cell="level-1",
    hint=[
        "every running container writes to its log",
        "docker logs NAME, for each name of docker ps",
    ],
)
def treasure(world):
    drawn = plan(world.seed)
    answer = world.answer("treasure")
    return expect(
        answer == drawn["number"],
        expected="the number in that container's log",
        found=repr(answer),
        look="docker logs",
    )


@check(
    title="Level 1: that container has been renamed to treasure and still runs",
    points=1,
    cell="level-1",
    hint="docker rename OLD NEW works while it runs",
)
def renamed(world):
    found = world.container("treasure")
    drawn = plan(world.seed)
    yield expect(found.running, expected="running", found=found.state, look="docker ps -a")
    yield expect(
        str(drawn["number"]) in world.logs("treasure"),
        expected="the container with the treasure in its log",
        found="another container of that name",
        look="docker logs treasure",
    )


@check(
    title="Level 2: the polite container was asked, not killed",
    points=2,
    cell="level-2",
    hint=["which signal can a process hear?", "docker stop, not docker kill"],
)
def polite(world):
    drawn = plan(world.seed)
    found = world.container(drawn["polite"])
    yield expect(found.state == "exited", expected="exited", found=found.state, look="docker ps -a")
    yield expect(
        found.state == "exited" and found.exit_code == 0,
        expected="exit code 0",
        found=str(found.exit_code),
        look="docker inspect -f '{{.State.ExitCode}}' NAME",
    )
    yield expect(
        "goodbye" in world.logs(drawn["polite"]),
        expected="a goodbye in its log",
        found="none",
        look="docker logs NAME",
    )


@check(
    title="Level 3: exactly the failed containers are gone",
    points=3,
    cell="level-3",
    hint=[
        "docker ps -a --filter status=exited shows exit codes too",
        "docker ps has a filter exited=CODE; prune would take the innocent with it",
    ],
)
def cleaned(world):
    drawn = plan(world.seed)
    there = is_set_up(world, drawn)
    for name in drawn["failed"]:
        yield expect(
            there and world.find(name) is None,
            expected=f"{name} removed",
            found="still there" if world.find(name) else "the containers were never made",
            look="docker ps -a",
        )
    for name in (drawn["finished"], *drawn["keep"]):
        found = world.find(name)
        gone = all(world.find(other) is None for other in drawn["failed"])
        yield expect(
            found is not None and gone,
            expected=f"{name} kept, the failed ones gone",
            found="removed" if found is None else "the failed ones are still there",
            look="docker ps -a",
        )


@check(
    title="Level 3: a container named spare ended by itself with exit code 7",
    points=2,
    cell="level-3",
    hint="a container's exit code is that of its first process: sh -c 'exit 7'",
)
def spare(world):
    found = world.container("spare")
    yield expect(found.state == "exited", expected="exited", found=found.state, look="docker ps -a")
    yield expect(
        found.state == "exited" and found.exit_code == 7,
        expected="exit code 7",
        found=str(found.exit_code),
        look="docker ps -a",
    )
