"""What must hold when the exercise of chapter 05 is done: asked of the images, from outside."""

import hashlib

from labkit.notebook.grading.checks import check, expect

BUDGET = 5_000_000
FONTS = {"/fonts/sans", "/fonts/serif", "/fonts/mono"}
PAGES = {"app:1": b"<h1>bread 2.50</h1>\n", "app:2": b"<h1>bread 2.60</h1>\n"}


def seen(world, image, path):
    """The content of a file as a container of the image sees it, or None."""
    folder, _, name = path.rpartition("/")
    entries = world.layers(image, folder or "/")["folders"][folder or "/"]["entries"]
    layer = next((one["layer"] for one in entries if one["name"] == name), 0)
    return dict(world.in_layers(image, path)).get(layer)


def report(seed):
    """The five largest sales, as sort -n puts them."""
    sales = [((seed + n * 37) % 90 + 10, f"loaf{n % 7}") for n in range(200)]
    return "".join(f"{count} {loaf}\n" for count, loaf in sorted(sales)[-5:]).encode()


@check(
    title="Level 1: the report is small and says the same",
    points=4,
    cell="level-1",
    hint=[
        "the tools are needed to make the report, not to show it: two stages",
        "FROM debian AS workshop … then FROM busybox and COPY --from=workshop /report.txt /",
    ],
)
def small(world):
    size = int(world.image("report:small")["Size"])
    yield expect(
        size <= BUDGET,
        expected="at most 5 MB",
        found=f"{size / 1e6:.1f} MB",
        look="docker image ls report",
    )
    found = seen(world, "report:small", "/report.txt") if size <= BUDGET else None
    yield expect(
        found == report(world.seed),
        expected="the /report.txt of report:big, in the small image",
        found="no such file" if found is None else "another text",
        look="docker run --rm report:small cat /report.txt",
    )
    config = world.image("report:small")["Config"]
    command = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    yield expect(
        "/report.txt" in " ".join(command) or "report.txt" in command,
        expected="a command that shows /report.txt",
        found=" ".join(command) or "no command",
        look="docker run --rm report:small",
    )


@check(
    title="Level 2: a new page keeps the fonts",
    points=4,
    cell="level-2",
    hint=[
        "copy fonts.txt alone, fetch, and copy the rest afterwards",
        "build app:1 first, then call new_price(), then build app:2",
        "a file .dockerignore keeps build.log out",
    ],
)
def cached(world):
    for image in PAGES:
        world.image(image)
    compared = world.layers("app:1", other="app:2")
    shared = compared["layers"][: compared["other"]["shared"]]
    fetched = [layer["number"] for layer in compared["layers"] if brings_fonts(layer)]
    yield expect(
        bool(fetched) and any(layer["number"] in fetched for layer in shared),
        expected="one layer with the three fonts, the same in both",
        found="the fonts are in different layers" if fetched else "not all fonts in app:1",
        look="%lab view layers app:1 app:2",
    )
    for image, page in PAGES.items():
        found = seen(world, image, "/app/page.html")
        yield expect(
            found == page,
            expected=f"{image} with {page.decode().strip()}",
            found=found.decode(errors="replace").strip() if found else "no page",
            look=f"docker run --rm {image} cat /app/page.html",
        )
        log = world.in_layers(image, "/app/build.log")
        yield expect(
            not log,
            expected=f"no build.log in {image}",
            found=f"it is in layer {log[0][0]}" if log else "none",
            look=f"docker run --rm {image} ls /app",
        )


def brings_fonts(layer):
    """Whether this layer of app:1 adds all three fonts."""
    added = {deed["path"] for deed in layer["deeds"] if deed["how"] == "added"}
    return added >= FONTS


@check(
    title="Level 3: what the token fetched is there, the token is not, and nobody is root",
    points=4,
    cell="level-3",
    hint=[
        "a stage that is not the last one is not in the image",
        "COPY --from=… only what was fetched; a build argument would stay in the history",
        "USER with a number needs no entry in /etc/passwd",
    ],
)
def safe(world):
    token = f"tk-{world.seed * 7919 + 104729:x}-9c41"
    made = world.image("fetch:safe")
    wanted = hashlib.sha256(f"{token}\n".encode()).hexdigest().encode()
    found = seen(world, "fetch:safe", "/data/fetched") or b""
    yield expect(
        found.startswith(wanted),
        expected="what the token fetches in /data/fetched",
        found="something else" if found else "no such file",
        look="docker run --rm fetch:safe",
    )
    layers = world.layers_holding("fetch:safe", token.encode())
    yield expect(
        not layers,
        expected="the token in no layer",
        found=f"it is in layer {', '.join(map(str, layers))}" if layers else "none",
        look="%lab view layers fetch:safe",
    )
    steps = " ".join(step["instruction"] for step in world.layers("fetch:safe")["steps"])
    told = [name for name, text in (("history", steps), ("config", str(made))) if token in text]
    yield expect(
        not told,
        expected="the token neither in the history nor in the environment",
        found=f"it is in the {' and the '.join(told)}" if told else "none",
        look="docker history --no-trunc fetch:safe",
    )
    user = str(made["Config"].get("User") or "").partition(":")[0]
    yield expect(
        user not in ("", "0", "root"),
        expected="a user who is not root",
        found=user or "root",
        look="docker image inspect -f '{{.Config.User}}' fetch:safe",
    )
