"""What must hold when the exercise of chapter 06 is done: asked of engine and registries."""

import base64

from labkit.notebook.grading.checks import check, expect

FILES, DAYS = ["prices", "rules", "page"], ["monday", "tuesday", "wednesday"]
TAG = "/var/lib/registry/docker/registry/v2/repositories/till/_manifests/tags/1.0/current/link"
ASK = ["wget", "-q", "-O", "-", "http://127.0.0.1:5000/v2/_catalog"]


def audited(world):
    """The auditors' digest."""
    notes = [one for one in world.volumes() if one["Name"] == "auditors-note"]
    digest = notes[0]["Labels"].get("digest", "") if notes else ""
    if not digest.startswith("sha256:"):
        raise world.not_gradable("the cell that sets the scene was not run: no auditors-note")
    return digest


@check(
    title="Level 1: you know which is the audited one, and what was changed in 1.0",
    points=4,
    cell="level-1",
    hint=[
        "two images are equal exactly when the digests of their manifests are",
        "docker manifest inspect localhost:5000/till:monday; and with @sha256:… the audited one",
        "the first layer is busybox; the others come in the Dockerfile's order",
    ],
)
def proof(world):
    yield expect(
        world.answer("same") == DAYS[world.seed // 3 % 3],
        expected="the day whose manifest lists the same layers as the audited one",
        found=str(world.answer("same")),
        look="docker manifest inspect localhost:5000/till:monday",
    )
    yield expect(
        world.answer("changed") == FILES[world.seed % 3],
        expected="the file whose layer has another digest in 1.0",
        found=str(world.answer("changed")),
        look="docker manifest inspect localhost:5000/till:1.0",
    )


@check(
    title="Level 2: the till runs the audited image, pinned",
    points=3,
    cell="level-2",
    hint=[
        "a tag can be moved, a digest cannot (section 5)",
        "docker run -d --name till localhost:5000/till@sha256:… sleep 3600",
    ],
)
def pinned(world):
    till = world.container("till")
    yield expect(
        till.running,
        expected="a running container till",
        found=till.state,
        look="docker ps -a",
    )
    yield expect(
        till.image.endswith(f"@{audited(world)}"),
        expected="started by the auditors' digest",
        found=till.image,
        look="docker inspect -f '{{.Config.Image}}' till",
    )


@check(
    title="Level 3: nobody enters the vault without the password",
    points=2,
    cell="level-3",
    hint=[
        "section 8: three variables that begin with REGISTRY_AUTH",
        "docker logs vault, if it does not run",
        "it must let keeper in: the file has one line, keeper:$2b$…",
    ],
)
def locked(world):
    refused = world.exec("vault", ASK)
    yield expect(
        "401" in refused.output,
        expected="401 Unauthorized for somebody without a password",
        found=refused.output.strip()[:200] or "nothing",
        look="docker exec vault wget -O - http://127.0.0.1:5000/v2/_catalog",
    )
    header = "Authorization: Basic " + base64.b64encode(b"keeper:s3same").decode()
    let_in = world.exec("vault", [*ASK, "--header", header])
    yield expect(
        "repositories" in let_in.stdout,
        expected="keeper let in",
        found=let_in.output.strip()[:200] or "nothing",
        look="docker login -u keeper localhost:5002",
    )


@check(
    title="Level 3: the vault has the audited image as till:1.0",
    points=2,
    cell="level-3",
    hint=[
        "docker tag works with a digest as the source",
        "docker login -u keeper localhost:5002, then docker push localhost:5002/till:1.0",
    ],
)
def kept(world):
    link = world.exec("vault", ["cat", TAG])
    yield expect(
        link.stdout.strip() == audited(world),
        expected="till:1.0 with the auditors' digest",
        found=link.output.strip()[:200] or "nothing",
        look="docker manifest inspect localhost:5002/till:1.0",
    )
