"""papermill with our engine: parameters, errors, outputs, limits, and papermill's own way in."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import papermill
    from papermill.exceptions import PapermillExecutionError

from labkit.notebook.grading.papermill_engine import Journal, register


def notebook(path: Path, *sources: str, **metadata: Any) -> str:
    tags = [["parameters"]] + [[] for _ in sources]
    cells = [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "metadata": {"tags": tag},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for number, (tag, source) in enumerate(zip(tags, ["seed = 0", *sources], strict=True))
    ]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    document = {"cells": cells, "metadata": {"kernelspec": kernel, **metadata}, "nbformat": 4}
    path.write_text(json.dumps({**document, "nbformat_minor": 5}))
    return str(path)


def run(tmp_path: Path, *sources: str, **options: Any) -> Any:
    register()
    path = notebook(tmp_path / "in.ipynb", *sources)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return papermill.execute_notebook(
            path,
            str(tmp_path / "out.ipynb"),
            parameters={"seed": 7},
            engine_name="labkit",
            progress_bar=False,
            **options,
        )


def last(done: Any) -> list[dict[str, Any]]:
    return [dict(output) for output in done.cells[-1].outputs]


def test_parameters_results_and_streams(tmp_path: Path) -> None:
    done = run(tmp_path, "import sys\nprint('out')\nprint('err', file=sys.stderr)\nseed * 6")
    assert [(one["output_type"], one.get("text")) for one in last(done)] == [
        ("stream", "out\n"),
        ("stream", "err\n"),
        ("execute_result", None),
    ]
    assert last(done)[2]["data"] == {"text/plain": "42"}
    assert json.loads((tmp_path / "out.ipynb").read_text())["metadata"]["papermill"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import asyncio\nawait asyncio.sleep(0)\nprint('awaited')", "awaited\n"),
        ("%%capture kept\nprint('hidden')", ""),
        ("%env LANG", "C"),
        ("import os; _ = os.system('echo from a child')", "from a child\n"),
        (
            "import threading\nt = threading.Thread(target=print, args=['x'])\nt.start(); t.join()",
            "x",
        ),
    ],
)
def test_what_cells_may_contain(tmp_path: Path, source: str, text: str) -> None:
    shown = "".join(str(one.get("text", one.get("data"))) for one in last(run(tmp_path, source)))
    assert text in shown


def test_a_display_can_be_updated(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "from IPython.display import display\nh = display('one', display_id=True)\nh.update('two')",
    )
    assert last(done)[0]["data"] == {"text/plain": "'two'"}


def test_an_error_stops_the_notebook_and_is_saved(tmp_path: Path) -> None:
    with pytest.raises(PapermillExecutionError, match="division by zero"):
        run(tmp_path, "1 / 0", "print('never')")
    saved = json.loads((tmp_path / "out.ipynb").read_text())
    assert "never\n" not in json.dumps([cell.get("outputs") for cell in saved["cells"]])


def test_a_cell_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    journal = Journal()
    with pytest.raises(PapermillExecutionError, match=r"longer than 0\.5 s"):
        run(tmp_path, "while True: pass", execution_timeout=0.5, journal=journal)
    assert journal.ending == "timeout"


def test_a_cell_that_ends_the_process_is_reported(tmp_path: Path) -> None:
    with pytest.raises(PapermillExecutionError, match="the process that runs the cells ended"):
        run(tmp_path, "import os; os._exit(1)")


def test_output_beyond_the_bound_is_dropped(tmp_path: Path) -> None:
    run(tmp_path, "for _ in range(1000): print('x' * 1000)", output_bytes=10_000)
    assert (tmp_path / "out.ipynb").stat().st_size < 30_000


def test_two_runs_do_not_share_variables(tmp_path: Path) -> None:
    run(tmp_path, "leak = 1")
    assert last(run(tmp_path, "'leak' in globals()"))[0]["data"] == {"text/plain": "False"}


def test_the_engine_can_be_imported_before_papermill_and_named_on_its_command_line(
    tmp_path: Path,
) -> None:
    path = notebook(tmp_path / "in.ipynb", "print(seed)")
    program = (
        "import sys\n"
        "from labkit.notebook.grading.papermill_engine import LabkitEngine, register\n"
        "assert 'papermill' not in sys.modules\n"
        "register()\n"
        "from papermill.__main__ import papermill\n"
        "papermill()"
    )
    words = [path, str(tmp_path / "out.ipynb"), "-p", "seed", "7", "--engine", "labkit"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *words, "--no-progress-bar"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "7\\n" in (tmp_path / "out.ipynb").read_text()
