"""Grading: checks about the state of the world, the sandbox that runs submissions, the gradebook.

    checks.py       what a check is, and how an exercise's checks.py is read and run
    world.py        the read-only view of a lab that checks are given
    exercise.py     an exercise folder; submissions.py finds what students handed in
    shell.py        the forked IPython shell that executes a notebook's cells
    zygote.py       the warm single-threaded process that forks shells and sandboxes
    plan.py, sandbox.py, sandbox_root.py   the inside of one submission's sandbox
    lab.py, cgroups.py   the same from outside: made, limited, looked at, ended
    verdict.py      from what happened to one status
    papermill_engine.py   papermill's plug-in point (`--engine labkit`)
    runner.py, selfcheck.py, gradebook.py, cli.py   `labkit grade`
    instant.py      `%check` and the hints

Nothing is imported here: `%load_ext labkit` must stay cheap.
"""
