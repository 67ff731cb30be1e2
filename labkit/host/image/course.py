"""Every image the course names, and what it is in a room without a network."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.host.image.catalog import REFUSED, Catalog
from labkit.host.image.reference import parse

__all__ = ["CourseImage", "course_images", "to_carry"]

_NAMES = (
    "busybox:latest alpine:latest alpine:3.7 hello-world:latest debian:latest debian:wheezy "
    "ubuntu:latest ubuntu:17.04 nginx:latest nginx:alpine nginx:1.25 redis:latest redis:alpine "
    "redis:3.2 redis:7 postgres:latest postgres:alpine postgres:9.4 postgres:16 mysql:latest "
    "mariadb:latest python:latest python:2.7 node:latest node:alpine httpd:latest registry:2 "
    "docker:latest mongo:3.7 centos:7 nextcloud:latest java:latest maven:latest"
)
_BUILT = ("whoami", "vote", "result", "worker", "visualizer")
"""Small applications that no registry is asked for."""


@dataclass(frozen=True, slots=True)
class CourseImage:
    """`kind` is `stand-in`, `built` or `refused`; with a network the first and last are real."""

    name: str
    kind: str
    what: str


def course_images() -> list[CourseImage]:
    """The table, in the order of the course."""
    catalog = Catalog()
    found = []
    for name in _NAMES.split():
        reference = parse(name)
        entry = catalog.resolve(reference)
        if entry is not None:
            found.append(CourseImage(name, "stand-in", entry.summary))
        else:
            short = reference.familiar_name
            why = REFUSED[short]
            found.append(
                CourseImage(name, "refused", f"no stand-in for {short} can be built: {why}")
            )
    found += [CourseImage(name, "built", "the chapter that uses it builds it") for name in _BUILT]
    return found


def to_carry() -> list[str]:
    """What a bundle for a room without a network holds, unless it is told otherwise."""
    return [one.name for one in course_images() if one.kind == "stand-in"]
