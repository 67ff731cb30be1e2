"""What must hold when the exercise of chapter 04 is done: asked of the images, from outside."""

from labkit.notebook.grading.checks import check, expect

PAGES = [f"/srv/page{number}" for number in range(1, 7)]


def numbers(world):
    """Path → the layer it is seen from, in library:1."""
    found = world.layers("library:1", "/srv", "/app")["folders"]
    return {
        f"{folder}/{entry['name']}": entry["layer"]
        for folder in ("/srv", "/app")
        for entry in found[folder]["entries"]
    }


@check(
    title="Level 1: each file's layer is known, and what is wasted",
    points=3,
    cell="level-1",
    hint=[
        "%lab view layers library:1; the number before a file is its layer",
        "hidden files: those with a line through, and those that a higher layer replaced",
        "docker save has every hidden file with its exact size: the old menu has 17 bytes",
    ],
)
def origins(world):
    seen = numbers(world)
    for key, path in (("menu", "/srv/menu"), ("state", "/app/state")):
        answer = world.answer(key)
        yield expect(
            answer == seen[path],
            expected=f"the number of the layer that {path} comes from",
            found=repr(answer),
            look="%lab view layers library:1",
        )
    wasted = sum(layer["wasted"] for layer in world.layers("library:1")["layers"])
    answer = world.answer("wasted")
    yield expect(
        answer == wasted,
        expected="the bytes of all hidden files together",
        found=repr(answer),
        look="%lab view layers library:1",
    )


@check(
    title="Level 2: the deleted token is found",
    points=3,
    cell="level-2",
    hint=[
        "docker save -o library.tar library:1, then look into each layer's archive",
        "manifest.json in it lists the layers; a layer may be compressed (gzip)",
        "the layer in which app/token was written is number 3",
    ],
)
def token(world):
    answer = str(world.answer("token")).strip()
    kept = [data.decode().strip() for _, data in world.in_layers("library:1", "/app/token")]
    yield expect(
        answer in kept,
        expected="the content of /app/token",
        found=repr(answer),
        look="docker save -o library.tar library:1",
    )


@check(
    title="Level 2: library:clean shows the same and hides nothing",
    points=3,
    cell="level-2",
    hint=[
        "a container from library:1 sees everything but the token",
        "docker create, docker export -o flat.tar, docker import flat.tar library:clean",
    ],
)
def clean(world):
    world.image("library:clean")
    left = world.in_layers("library:clean", "/app/token")
    yield expect(
        not left,
        expected="no layer with a file app/token",
        found=f"it is in layer {left[0][0]}" if left else "none",
        look="%lab view layers library:clean library:1",
    )
    for path in ("/srv/menu", *PAGES):
        there = world.in_layers("library:1", path)[-1:]
        here = world.in_layers("library:clean", path)[-1:]
        if [data for _, data in there] != [data for _, data in here]:
            yield expect(
                False,
                expected=f"{path} as in library:1",
                found="something else" if here else "no such file",
                look="docker run --rm library:clean ls -l /srv",
            )
            return


@check(
    title="Level 3: what is different between the versions is proven",
    points=3,
    cell="level-3",
    hint=[
        "%lab view layers library:1 library:2 puts = or ≠ between the layers",
        "below it every differing file is listed: content (~) or only its time (·)",
        "docker image inspect -f '{{json .RootFS.Layers}}' library:2 lists diff-ids, lowest first",
    ],
)
def difference(world):
    other = world.layers("library:1", other="library:2")["other"]
    changed = [one for one in other["differences"]["files"] if one["how"] == "changed"]
    answer = world.answer("same")
    yield expect(
        answer == other["shared"],
        expected="the number of the highest layer that both have",
        found=repr(answer),
        look="%lab view layers library:1 library:2",
    )
    answer = world.answer("file")
    yield expect(
        answer in [one["path"] for one in changed],
        expected="the file whose content differs",
        found=repr(answer),
        look="%lab view layers library:1 library:2",
    )
    brought = {other["layers"][one["after"]["layer"] - 1]["diff_id"] for one in changed}
    answer = world.answer("diff_id")
    yield expect(
        answer in brought,
        expected="the diff-id of the layer of library:2 with that file",
        found=repr(answer),
        look="docker image inspect -f '{{json .RootFS.Layers}}' library:2",
    )
