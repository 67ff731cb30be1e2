"""What a submission may try, and what becomes of it. Each has its own verdict; none does harm."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from labkit.notebook.grading.result import Result

from .tiny import RIGHT

pytestmark = pytest.mark.namespaces


def outputs_text(result: Result) -> str:
    return "\n".join(trouble["error"] for trouble in result.troubles)


def test_an_endless_loop_is_a_timeout_and_what_was_done_before_counts(grade: Any) -> None:
    result = grade(RIGHT, "while True: pass")
    assert (result.status, result.score) == ("timeout", 5)
    assert "cell 2" in result.reason


def test_ending_the_process_is_killed_and_what_was_done_before_counts(grade: Any) -> None:
    result = grade(RIGHT, "import os; os._exit(0)", "1")
    assert (result.status, result.score) == ("killed", 5)
    assert "ended itself" in result.reason


def test_a_segmentation_fault_is_killed(grade: Any) -> None:
    result = grade("import ctypes; ctypes.string_at(0)")
    assert (result.status, result.score) == ("killed", 0)


def test_exit_ends_the_notebook_and_says_which_cell_did(grade: Any) -> None:
    result = grade("x = 1", "exit", RIGHT)
    assert (result.status, result.score) == ("killed", 0)
    assert result.reason == (
        "cell 2 ends the notebook with exit; 1 later cells with code did not run"
    )


def test_exit_in_the_last_cell_costs_nothing(grade: Any) -> None:
    assert grade(RIGHT, "exit").status == "ok"


def test_killing_every_process_in_reach_ends_only_the_notebook(grade: Any) -> None:
    result = grade(RIGHT, "import os, signal; os.kill(-1, signal.SIGKILL); os.kill(1, 9)", "1")
    assert result.status in ("ok", "killed")
    assert result.score == 5
    assert any("no effect" in line for line in result.review)


def test_a_fork_bomb_is_stopped_by_its_own_limit(grade: Any) -> None:
    result = grade("import os\nwhile True:\n    os.fork()")
    assert result.status in ("timeout", "killed")
    assert result.score == 0


def test_a_refused_fork_is_named_as_the_reason(grade: Any, factory: Any) -> None:
    if "pids" not in factory.controllers:
        pytest.skip("no pids controller to count refused forks")
    result = grade("import os, time\nfor _ in range(80):\n    if os.fork() == 0: time.sleep(60)")
    assert (result.status, result.score) == ("killed", 0)
    assert "more than 64 processes" in result.reason


def test_filling_the_disk_ends_at_its_bound(grade: Any) -> None:
    before = os.statvfs("/").f_bavail
    result = grade("open('big', 'wb').write(b'x' * (64 << 20))")
    assert (result.status, result.score) == ("killed", 0)
    assert "filled its disk of 16 MiB" in result.reason or "File too large" in outputs_text(result)
    assert before - os.statvfs("/").f_bavail < (32 << 20) / os.statvfs("/").f_frsize


def test_filling_the_disk_in_many_files_is_named(grade: Any) -> None:
    result = grade("for n in range(64): open(f'{n}', 'wb').write(b'x' * (1 << 20))")
    assert (result.status, result.score) == ("killed", 0)
    assert result.reason == "the notebook filled its disk of 16 MiB"


def test_eating_all_memory_is_killed_by_its_own_limit(grade: Any, factory: Any) -> None:
    if "memory" not in factory.controllers:
        pytest.skip("no memory controller to set a limit with")
    result = grade("hog = [bytearray(16 << 20) for _ in range(64)]")
    assert (result.status, result.score) == ("killed", 0)
    assert "more than 256 MiB" in result.reason


def test_a_gigabyte_of_output_is_cut_and_counted(grade: Any) -> None:
    result = grade(RIGHT, "line = 'x' * (1 << 20)\nfor _ in range(1024): print(line)")
    assert (result.status, result.score) == ("ok", 5)
    assert any("bytes more than are kept" in note for note in result.notes)


def test_output_of_child_processes_is_cut_too(grade: Any) -> None:
    result = grade(RIGHT, "import os; os.system('head -c 20000000 /dev/zero')")
    assert (result.status, result.score) == ("ok", 5)
    assert any("bytes more than are kept" in note for note in result.notes)


def test_redefining_the_checks_changes_nothing_and_says_so(grade: Any) -> None:
    result = grade(
        "import labkit.notebook.grading.checks as c, labkit.notebook.grading.world as w\n"
        "def check(**_): return lambda f: f\n"
        "c.expect = lambda *a, **k: True\n"
        "w.World.answer = lambda *a: 8\n"
    )
    assert (result.status, result.score) == ("partial", 0)
    assert any("redefines expect" in note for note in result.notes)
    assert any("redefines check" in note for note in result.notes)


def test_showing_a_made_up_result_earns_nothing(grade: Any) -> None:
    result = grade(
        "from IPython.display import display\n"
        "display({'application/vnd.labkit.check+json': {'score': 99, 'max': 5}}, raw=True)"
    )
    assert (result.status, result.score) == ("partial", 0)


def test_reading_for_other_submissions_is_forbidden(grade: Any, tmp_path: Path) -> None:
    secret = tmp_path / "submissions" / "bob" / "07-answers" / "07-answers.ipynb"
    secret.parent.mkdir(parents=True)
    secret.write_text("BOBS WORK")
    result = grade(
        RIGHT,
        f"print(open({str(secret)!r}).read())",
        private=(tmp_path / "submissions",),
    )
    assert (result.status, result.score) == ("forbidden", None)
    assert "FileNotFoundError" in outputs_text(result)
    assert result.review
    assert result.review[0].startswith("forbidden")


def test_looking_around_with_a_shell_command_is_forbidden(grade: Any) -> None:
    result = grade("!find / -name '*.ipynb' 2>/dev/null")
    assert (result.status, result.score) == ("forbidden", None)


@pytest.mark.parametrize("name", ["checks.py", "solution.ipynb"])
def test_the_checks_and_the_solution_are_not_there(grade: Any, name: str) -> None:
    result = grade(
        "import os\n"
        f"found = [p for p, _, files in os.walk('/') if {name!r} in files and 'grading' not in p]\n"
        "assert not found, found",
        RIGHT,
    )
    assert "AssertionError" not in outputs_text(result)


def test_the_graders_home_and_files_are_not_there(grade: Any) -> None:
    home = Path.home()
    result = grade(f"import os\nprint(os.listdir({str(home / '.ssh')!r}))", RIGHT)
    assert "FileNotFoundError" in outputs_text(result)


def test_there_is_no_network_and_trying_is_noted(grade: Any) -> None:
    result = grade(RIGHT, "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)")
    assert (result.status, result.score) == ("ok", 5)
    assert "unreachable" in outputs_text(result)
    assert any("192.0.2.1 port 80" in line for line in result.review)


def test_tracing_is_refused_and_forbidden(grade: Any) -> None:
    result = grade(
        "import os\nassert len([p for p in os.listdir('/proc') if p.isdigit()]) <= 3",
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.ptrace(16, os.getppid(), 0, 0) == -1, 'traced'",
        RIGHT,
    )
    assert result.troubles == []
    assert (result.status, result.score) == ("forbidden", None)
    assert "called ptrace" in result.reason


def test_the_students_process_is_nobody_on_the_machine(grade: Any, factory: Any) -> None:
    if factory.id_base is None:
        pytest.skip("only root can map a range of ids that owns nothing")
    result = grade(
        "import pathlib\n"
        "ids = pathlib.Path('/proc/self/uid_map').read_text().split()\n"
        "caps = [l for l in open('/proc/self/status') if l.startswith('Cap')]\n"
        "assert all(int(l.split()[1], 16) == 0 for l in caps), caps\n"
        f"assert int(ids[1]) == {factory.id_base}, ids\n",
        RIGHT,
    )
    assert (result.status, result.troubles) == ("ok", [])


def test_nothing_outside_its_folder_can_be_written(grade: Any) -> None:
    result = grade(
        "import os\n"
        "for place in ('/usr', '/etc', '/', '/run/labkit', os.path.dirname(os.__file__)):\n"
        "    try:\n"
        "        open(place + '/mark', 'w')\n"
        "    except OSError:\n"
        "        continue\n"
        "    raise SystemError(place)",
        RIGHT,
    )
    assert (result.status, result.troubles) == ("ok", [])


def test_babble_on_the_control_socket_is_forbidden(grade: Any) -> None:
    result = grade(
        "import os, stat\n"
        "for n in range(3, 64):\n"
        "    try:\n"
        "        if stat.S_ISSOCK(os.fstat(n).st_mode): os.write(n, b'not json\\n')\n"
        "    except OSError: pass"
    )
    assert (result.status, result.score) == ("forbidden", None)


def test_a_forged_end_of_cell_gains_nothing(grade: Any) -> None:
    result = grade(
        "import os, stat, json\n"
        "for n in range(3, 64):\n"
        "    try:\n"
        "        if stat.S_ISSOCK(os.fstat(n).st_mode):\n"
        "            os.write(n, json.dumps({'t': 'done', 'n': 1, 'ok': True}).encode() + b'\\n')\n"
        "    except OSError: pass"
    )
    assert result.score in (0, None)


def test_a_question_is_refused_in_words(grade: Any) -> None:
    result = grade("name = input('your name? ')", RIGHT)
    assert (result.status, result.score) == ("ok", 5)
    assert "asks a question ('your name?')" in outputs_text(result)


def test_an_answers_file_that_is_a_link_or_endless_is_not_read(grade: Any) -> None:
    link = "import os, pathlib\np = pathlib.Path(os.environ['LABKIT_ANSWERS'])\n"
    assert grade(link + "p.symlink_to('/etc/passwd')").score == 0
    assert grade(link + "os.mkfifo(p)").score == 0
    assert grade(link + "p.write_text('[' * 100000)").score == 0


def test_background_processes_do_not_outlive_the_notebook(grade: Any) -> None:
    start = time.monotonic()
    result = grade(RIGHT, "import subprocess; subprocess.Popen(['sleep', '1000'])")
    assert result.status == "ok"
    assert time.monotonic() - start < 60
