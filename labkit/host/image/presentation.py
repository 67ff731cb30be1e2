"""Docker's JSON about images: inspect, history, the list and its filters.

Shapes follow Docker Engine 28 (API 1.50); older shapes are made from these above.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from labkit.base.errors import InvalidParameter
from labkit.base.quantities import parse_duration_ns
from labkit.host.image.model import Image, format_time, parse_time

if TYPE_CHECKING:
    from labkit.host.image.store import ImageStore

__all__ = ["filtered", "graph_driver", "history", "inspect", "parse_until", "summary"]

_NEVER = "0001-01-01T00:00:00Z"
_ALWAYS_SHOWN: Mapping[str, Any] = {
    "Cmd": None,
    "Entrypoint": None,
    "Env": None,
    "Labels": None,
    "OnBuild": None,
    "User": "",
    "Volumes": None,
    "WorkingDir": "",
}
_FILTERS = frozenset({"before", "dangling", "label", "label!", "reference", "since", "until"})


def inspect(store: ImageStore, image: Image) -> dict[str, Any]:
    """`GET /images/NAME/json`."""
    config = image.config
    answer: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": list(image.repo_tags),
        "RepoDigests": list(image.repo_digests),
        "Parent": image.parent,
        "Comment": _comment(config),
        "Created": config.get("created") or _NEVER,
        "DockerVersion": config.get("docker_version", ""),
        "Author": config.get("author", ""),
        "Config": {**_ALWAYS_SHOWN, **image.defaults},
        "Architecture": config.get("architecture", ""),
        "Os": config.get("os", ""),
        "Size": image.size,
        "GraphDriver": graph_driver(store, image),
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        "Metadata": {
            "LastTagTime": format_time(image.last_tag_ns) if image.last_tag_ns else _NEVER
        },
    }
    if config.get("variant"):
        answer["Variant"] = config["variant"]
    descriptor = _descriptor(store, image)
    if descriptor:
        answer["Descriptor"] = descriptor
    return answer


def _comment(config: Mapping[str, Any]) -> str:
    if config.get("comment"):
        return str(config["comment"])
    steps = config.get("history") or [{}]
    return str(steps[-1].get("comment", ""))


def _descriptor(store: ImageStore, image: Image) -> dict[str, Any] | None:
    """The manifest the image came with, if one is known."""
    for digest, role, media_type in store.index.image_blobs(image.id):
        path = store.blobs.find(digest) if role == "manifest" else None
        if path is not None:
            size = path.stat().st_size
            return {"mediaType": media_type, "digest": digest, "size": size}
    return None


def graph_driver(store: ImageStore, image: Image) -> dict[str, Any]:
    """Where the layers lie, spelt as the lab host sees them."""
    paths = [store.layers.path(diff_id) for diff_id in image.diff_ids]
    folders = [store.shown(path.parent) for path in reversed(paths) if path is not None]
    if not folders or store.driver != "overlay2":
        return {"Name": store.driver, "Data": None}
    data = {}
    if folders[1:]:
        data["LowerDir"] = ":".join(f"{folder}/diff" for folder in folders[1:])
    for key, name in (("MergedDir", "merged"), ("UpperDir", "diff"), ("WorkDir", "work")):
        data[key] = f"{folders[0]}/{name}"
    return {"Name": "overlay2", "Data": data}


def summary(image: Image, *, containers: int = -1) -> dict[str, Any]:
    """One entry of `GET /images/json`."""
    return {
        "Containers": containers,
        "Created": image.created_ns // 1_000_000_000,
        "Id": image.id,
        "Labels": dict(image.labels) or None,
        "ParentId": image.parent,
        "RepoDigests": list(image.repo_digests),
        "RepoTags": list(image.repo_tags),
        "SharedSize": -1,
        "Size": image.size,
    }


def history(store: ImageStore, image: Image) -> list[dict[str, Any]]:
    """`GET /images/NAME/history`: newest first; ids of steps that are no image are `<missing>`."""
    sizes = iter(
        row.size if row is not None else 0
        for row in (store.index.layer(diff_id) for diff_id in image.diff_ids)
    )
    answer: list[dict[str, Any]] = []
    for step in image.config.get("history") or []:
        created = step.get("created")
        answer.append(
            {
                "Comment": step.get("comment", ""),
                "Created": parse_time(created) // 1_000_000_000 if created else 0,
                "CreatedBy": step.get("created_by", ""),
                "Id": "<missing>",
                "Size": 0 if step.get("empty_layer") else next(sizes, 0),
                "Tags": None,
            }
        )
    answer.reverse()
    current: Image | None = image
    for entry in answer:
        if current is None:
            break
        entry["Id"] = current.id
        entry["Tags"] = list(current.repo_tags) or None
        parent = current.parent
        current = store.get(parent) if parent and store.index.image(parent) else None
    return answer


# -- filters -------------------------------------------------------------------------------


def parse_until(text: str, now_ns: int) -> int:
    """A point in time from `until`: Go duration back from now, Unix seconds or RFC 3339."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        whole, _, fraction = text.partition(".")
        return int(whole) * 1_000_000_000 + int((fraction + "0" * 9)[:9])
    if re.match(r"\d{4}-", text):
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            text += "T00:00:00"
        if not re.search(r"([Zz]|[+-]\d\d:\d\d)$", text):
            text += "Z"
        return parse_time(text)
    return now_ns - parse_duration_ns(text)


def _go_pattern(pattern: str) -> re.Pattern[str]:
    """Go's path.Match: `*` and `?` stop at a slash."""
    out, at = "", 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            out += "[^/]*"
        elif character == "?":
            out += "[^/]"
        elif character == "[":
            end = pattern.find("]", at)
            if end < 0:
                raise InvalidParameter("syntax error in pattern")
            inner = pattern[at:end].replace("\\", "\\\\")
            out += f"[{inner}]"
            at = end + 1
        elif character == "\\" and at < len(pattern):
            out += re.escape(pattern[at])
            at += 1
        else:
            out += re.escape(character)
    try:
        return re.compile(out + r"\Z")
    except re.error:
        raise InvalidParameter("syntax error in pattern") from None


def _flag(filters: Mapping[str, Sequence[str]], name: str) -> bool | None:
    values = filters.get(name)
    if not values:
        return None
    words = {"true": True, "1": True, "false": False, "0": False}
    if values[0].lower() not in words:
        raise InvalidParameter(f"invalid filter '{name}=[{' '.join(values)}]'")
    return words[values[0].lower()]


def _has_label(image: Image, wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in image.labels and (not equals or image.labels[key] == value)


def filtered(
    store: ImageStore, images: list[Image], filters: Mapping[str, Sequence[str]]
) -> list[Image]:
    """The images that pass all filters; `reference` also narrows the tags that are shown."""
    for name in filters:
        if name not in _FILTERS:
            raise InvalidParameter(f"invalid filter '{name}'")
    tests: list[Callable[[Image], bool]] = []
    dangling = _flag(filters, "dangling")
    if dangling is not None:
        tests.append(lambda image: image.is_dangling == dangling)
    tests += [
        lambda image, wanted=wanted: _has_label(image, wanted)  # type: ignore[misc]
        for wanted in filters.get("label", ())
    ]
    tests += [
        lambda image, wanted=wanted: not _has_label(image, wanted)  # type: ignore[misc]
        for wanted in filters.get("label!", ())
    ]
    before = [store.get(name).created_ns for name in filters.get("before", ())]
    before += [parse_until(text, store.now_ns()) for text in filters.get("until", ())]
    after = [store.get(name).created_ns for name in filters.get("since", ())]
    tests.append(lambda image: all(image.created_ns < limit for limit in before))
    tests.append(lambda image: all(image.created_ns > limit for limit in after))
    found = [image for image in images if all(test(image) for test in tests)]
    patterns = [_go_pattern(pattern) for pattern in filters.get("reference", ())]
    return _by_pattern(found, patterns) if patterns else found


def _by_pattern(images: list[Image], patterns: list[re.Pattern[str]]) -> list[Image]:
    def matches(name: str) -> bool:
        repository = name.partition("@")[0]
        if "@" not in name:
            repository = name.rpartition(":")[0]
        return any(one.match(name) or one.match(repository) for one in patterns)

    answer = []
    for image in images:
        tags = tuple(name for name in image.repo_tags if matches(name))
        digests = tuple(name for name in image.repo_digests if matches(name))
        if tags or digests:
            answer.append(replace(image, repo_tags=tags, repo_digests=digests))
    return answer
