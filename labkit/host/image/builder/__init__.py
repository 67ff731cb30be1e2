"""Dockerfiles become images: parse, plan, look into the cache, run, commit.

    lexer.py         text → logical lines: directives, comments, continuations, heredocs
    parser.py        lines → typed instructions and stages (instructions.py)
    expand.py        $variables and quotes, with each instruction's own rules
    ignore.py        .dockerignore
    trees.py         where files come from: the uploaded context, an image, one file
    copying.py       COPY and ADD: sources, destination, the layer that results
    plan.py          which stages are needed, and what waits for what
    config.py        what each instruction makes of the image's configuration and history
    cache.py         Docker's rules for "Using cache"
    mounts.py        RUN --mount
    stage.py         one stage, step by step (runstep.py, copystep.py)
    building.py      the whole build, as the classic builder's stream of lines
    work.py          what the stages of one build share
    ports.py         what a build acts through; the real RUN is labkit.host.engine.builds

The words of the stream, of history and of errors are the classic builder's, which is what the
`docker` client speaks to over `POST /build` when buildx is not installed.
"""

from __future__ import annotations

__all__: list[str] = []
