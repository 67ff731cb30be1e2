# ruff: noqa: E501  (one sentence per row reads best unbroken)
"""What to try next when Docker's own words leave a beginner alone.

A table from sentences of Docker's client and daemon to one piece of advice. The sentence itself is
never changed: it is what the student will meet on every other machine and can search for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches

__all__ = ["ADVICE", "advise"]

# `{0}`, `{1}` are the groups of the pattern; `{near}` the nearest existing name, where asked for.
ADVICE: tuple[tuple[str, str, str], ...] = (
    # pattern, advice, kind of names to compare group 0 with ("" for none)
    (
        r"No such container: (\S+)",
        "`%docker ps -a` lists every container, the stopped ones too{near}",
        "containers",
    ),
    (r"No such object: (\S+)", "`%docker ps -a` and `%docker images` list what there is{near}", "all"),
    (r"No such image: (\S+)", "`%docker images` lists the images that are here{near}", "images"),
    (
        r"pull access denied for (\S+?),",
        "look at the spelling of the image’s name{near}; without a network only the lab’s stand-ins can be had",
        "catalog",
    ),
    (
        r'container name "/?(\S+?)" is already in use',
        "choose another --name, or remove the old one first: `%docker rm -f {0}`",
        "",
    ),
    (
        r'exec: "([^"]+)": executable file not found',
        "the image has no program “{0}”: `%docker run --rm IMAGE ls /bin` shows what it has",
        "",
    ),
    (
        r'exec: "([^"]+)": (?:stat \S+: )?no such file or directory',
        "there is no file {0} in the image: `%docker run --rm IMAGE ls -l /` shows what it has",
        "",
    ),
    (
        r'exec: "([^"]+)": permission denied',
        "{0} is not executable (or is a folder): give a program behind the image’s name",
        "",
    ),
    (r"unknown (?:shorthand )?flag:? '?(\S+?)'?(?: in|$)", "options stand before the image’s name; --help lists them", ""),
    (
        r"invalid hostPort: (\S+)|invalid containerPort: (\S+)",
        "a port is a number from 1 to 65535: -p 8080:80 is port 8080 here and 80 inside",
        "",
    ),
    (r"invalid size: '([^']*)'", "a size is a number with b, k, m or g: --memory 64m", ""),
    (r"Minimum memory limit allowed is (\S+)", "a plain number counts bytes; write --memory 64m", ""),
    (r"Range of CPUs is from", "--cpus counts whole processors; 0.5 is half of one", ""),
    (
        r'cannot remove container "/?(\S+?)": container is running',
        "stop it first (`%docker stop {0}`), or do both at once: `%docker rm -f {0}`",
        "",
    ),
    (r"[Cc]ontainer (\S+) is not running", "start it first: `%docker start {0}`", ""),
    (r"[Cc]ontainer (\S+) is paused", "let it go on first: `%docker unpause {0}`", ""),
    (r"conflict: unable to (?:delete|remove)", "a container still uses it: `%docker ps -a`, then `%docker rm`", ""),
    (r"requires (?:at least|exactly) (\d+) arguments?", "the usage line above shows what is missing", ""),
    (
        r"can't evaluate field (\w+)",
        "`--format '{{json .}}'` shows the fields there are",
        "",
    ),
    (r"failed to parse template|template parsing error", "a template looks like '{{{{.Names}}}}', in single quotes", ""),
    (r"invalid signal: (\S+)", "`%host kill -l` lists the signals; stop and kill take a name or a number", ""),
    (r"invalid (?:volume )?spec", "a bind is -v FOLDER-HERE:FOLDER-INSIDE, both absolute", ""),
    (r"invalid reference format", "an image is written name:tag, in small letters", ""),
    (r"unknown command: docker (\S+)", "`%docker --help` lists the commands{near}", "commands"),
    (r"[Cc]annot connect to the Docker daemon", "`%lab status` starts the lab again, `%lab doctor` says what is wrong", ""),
    (r"no space left on device", "`%docker system df` says what takes the room, `%docker image prune` frees some", ""),
)  # fmt: skip

_COMPILED = [(re.compile(pattern, re.MULTILINE), text, kind) for pattern, text, kind in ADVICE]
_DOCKERS_WORDS = re.compile(
    r"^(?:docker: |Error|OCI runtime|unknown |invalid |template |failed to parse|cannot |Cannot )",
    re.MULTILINE,
)


def advise(text: str, names: Callable[[str], Iterable[str]] = lambda _: ()) -> str | None:
    """Advice for what was printed, or None. `names(kind)` gives existing names of that kind.

    Output of the container's own program is not meant: only sentences that Docker begins count.
    """
    if not _DOCKERS_WORDS.search(text):
        return None
    for pattern, advice, kind in _COMPILED:
        match = pattern.search(text)
        if match is None:
            continue
        groups = [group for group in match.groups() if group is not None]
        near = _nearest(groups[0], names(kind)) if kind and groups else ""
        filled = advice.replace("{near}", near)
        for number, group in enumerate(groups):
            filled = filled.replace(f"{{{number}}}", group)
        return filled.replace("{{{{", "{{").replace("}}}}", "}}")
    return None


def _nearest(name: str, names: Iterable[str]) -> str:
    known = {one.partition(":")[0] if ":" not in name else one for one in names}
    close = get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""
