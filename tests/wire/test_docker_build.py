"""`docker build` with the real client (the classic builder), and what the images then do."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from .conftest import Lab


class Folder:
    """A build context in a folder of its own, and the client that sends it."""

    def __init__(self, lab: Lab, path: Path) -> None:
        self.lab = lab
        self.path = path

    def write(self, **files: str | bytes) -> None:
        for name, content in files.items():
            path = self.path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def dockerfile(self, text: str) -> None:
        self.write(Dockerfile=text)

    def run(self, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        where = () if "-" in words else (str(self.path),)
        return self.lab.docker("build", *words, *where, given=given)

    def ok(self, *words: str, given: str | None = None) -> str:
        done = self.run(*words, given=given)
        assert done.returncode == 0, done.stdout + done.stderr + self.lab.log()
        return done.stdout


@pytest.fixture
def folder(clean_lab: Lab, tmp_path: Path) -> Folder:
    return Folder(clean_lab, tmp_path)


def steps(output: str) -> list[str]:
    """The instructions, each with `cached` or `made`."""
    found = []
    for part in re.split(r"^Step \d+/\d+ : ", output, flags=re.MULTILINE)[1:]:
        word = part.split()[0]
        found.append(f"{word} {'cached' if 'Using cache' in part else 'made'}")
    return found


def test_the_classic_stream(folder: Folder) -> None:
    folder.dockerfile('FROM busybox\nRUN echo hello\nCMD ["echo", "from the image"]\n')
    output = folder.ok("-t", "classic", "--no-cache")
    shape = re.sub(r"\b[0-9a-f]{12}\b", "ID", output)
    # The client's own first line says how much it sends.
    assert shape.partition("\n\n")[2] == (
        "Step 1/3 : FROM busybox\n ---> ID\n"
        "Step 2/3 : RUN echo hello\n ---> Running in ID\nhello\n"
        " ---> Removed intermediate container ID\n ---> ID\n"
        'Step 3/3 : CMD ["echo", "from the image"]\n ---> Running in ID\n'
        " ---> Removed intermediate container ID\n ---> ID\n"
        "Successfully built ID\nSuccessfully tagged classic:latest\n"
    )
    assert folder.lab.ok("run", "--rm", "classic") == "from the image\n"
    assert folder.lab.ok("ps", "-aq") == ""


def test_quiet_prints_the_id_alone(folder: Folder) -> None:
    folder.dockerfile("FROM busybox\nLABEL quiet=1\n")
    output = folder.ok("-q")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", output)
    assert folder.lab.ok("image", "inspect", "-f", "{{.Id}}", output.strip()) == output


def test_a_second_build_uses_the_cache(folder: Folder) -> None:
    folder.write(Dockerfile="FROM busybox\nCOPY a /a\nRUN cat /a\nENV X=1\n", a="one")
    first = folder.ok()
    again = folder.ok()
    assert steps(again) == ["FROM made", "COPY cached", "RUN cached", "ENV cached"]
    assert first.splitlines()[-1] == again.splitlines()[-1]


def test_a_changed_file_makes_every_later_step_again(folder: Folder) -> None:
    folder.write(
        Dockerfile="FROM busybox\nRUN echo early\nCOPY a /a\nRUN cat /a\nENV X=1\n", a="one"
    )
    folder.ok()
    (folder.path / "a").write_text("two")
    output = folder.ok("-t", "changed")
    assert steps(output) == ["FROM made", "RUN cached", "COPY made", "RUN made", "ENV made"]
    assert folder.lab.ok("run", "--rm", "changed", "cat", "/a") == "two"


def test_a_new_time_of_a_file_is_no_change(folder: Folder) -> None:
    folder.write(Dockerfile="FROM busybox\nCOPY touched /a\n", touched="same")
    folder.ok()
    os.utime(folder.path / "touched", (1_000_000, 1_000_000))
    assert steps(folder.ok()) == ["FROM made", "COPY cached"]


def test_a_new_mode_of_a_file_is_a_change(folder: Folder) -> None:
    folder.write(Dockerfile="FROM busybox\nCOPY mode /a\n", mode="same")
    folder.ok()
    (folder.path / "mode").chmod(0o755)
    assert steps(folder.ok()) == ["FROM made", "COPY made"]


def test_no_cache_makes_everything(folder: Folder) -> None:
    folder.dockerfile("FROM busybox\nRUN echo no-cache\n")
    folder.ok()
    assert steps(folder.ok("--no-cache")) == ["FROM made", "RUN made"]


def test_stages_and_targets(folder: Folder) -> None:
    folder.dockerfile(
        "FROM busybox AS Builder\nRUN echo built > /out\n"
        "FROM busybox AS unused\nRUN echo never; false\n"
        "FROM busybox\nCOPY --from=Builder /out /result\nCOPY --from=0 /out /again\n"
    )
    output = folder.ok("-t", "stages")
    assert "never" not in output
    assert "Step 1/5" in output
    assert folder.lab.ok("run", "--rm", "stages", "cat", "/result", "/again") == "built\nbuilt\n"
    assert "COPY" not in folder.ok("--target", "builder")
    wrong = folder.run("--target", "nosuch")
    assert wrong.returncode == 1
    assert 'target stage "nosuch" could not be found' in wrong.stderr


def test_copy_from_an_image(folder: Folder) -> None:
    folder.dockerfile("FROM scratch\nCOPY --from=busybox /bin/busybox /bin/busybox\n")
    folder.ok("-t", "fromimage")
    assert folder.lab.ok("run", "--rm", "fromimage", "/bin/busybox", "echo", "x") == "x\n"


def test_build_arguments_and_variables(folder: Folder) -> None:
    folder.dockerfile(
        "ARG TAG=latest\nFROM busybox:$TAG\nARG WHO=nobody\nARG NONE\nENV GREETING=hello-$WHO\n"
        "ENV OTHER=${NONE:-default}\nRUN echo $WHO and $GREETING\n"
    )
    assert "nobody and hello-nobody" in folder.ok("-t", "args")
    output = folder.ok("-t", "args", "--build-arg", "WHO=me", "--build-arg", "UNUSED=1")
    assert "me and hello-me" in output
    assert "[Warning] One or more build-args [UNUSED] were not consumed" in output
    env = json.loads(folder.lab.ok("image", "inspect", "-f", "{{json .Config.Env}}", "args"))
    assert env[1:] == ["GREETING=hello-me", "OTHER=default"]
    assert env[0].startswith("PATH=")
    history = folder.lab.ok("history", "--no-trunc", "--format", "{{.CreatedBy}}", "args")
    assert history.splitlines()[0] == "|1 WHO=me /bin/sh -c echo $WHO and $GREETING"


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "printed"),
    [
        ("", 'CMD ["echo", "exec"]', "exec\n"),
        ("", "CMD echo shell", "shell\n"),
        ('ENTRYPOINT ["echo", "e"]', "", "e\n"),
        ('ENTRYPOINT ["echo", "e"]', 'CMD ["echo", "exec"]', "e echo exec\n"),
        ('ENTRYPOINT ["echo", "e"]', 'CMD ["parameter"]', "e parameter\n"),
        ('ENTRYPOINT ["echo", "e"]', "CMD echo shell", "e /bin/sh -c echo shell\n"),
        ("ENTRYPOINT echo s", "", "s\n"),
        ("ENTRYPOINT echo s", 'CMD ["echo", "exec"]', "s\n"),
        ("ENTRYPOINT echo s", 'CMD ["parameter"]', "s\n"),
        ("ENTRYPOINT echo s", "CMD echo shell", "s\n"),
    ],
)
def test_entrypoint_and_cmd(folder: Folder, entrypoint: str, cmd: str, printed: str) -> None:
    folder.dockerfile(f"FROM busybox\n{entrypoint}\n{cmd}\n")
    folder.ok("-t", "table")
    assert folder.lab.ok("run", "--rm", "table") == printed


def test_an_entrypoint_clears_the_cmd_of_the_base(folder: Folder) -> None:
    folder.dockerfile('FROM busybox\nENTRYPOINT ["echo"]\n')
    folder.ok("-t", "cleared")
    assert folder.lab.ok("image", "inspect", "-f", "{{json .Config.Cmd}}", "cleared") == "null\n"


def test_add_unpacks_a_tar_and_copy_does_not(folder: Folder) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo("inside/file")
        member.size, member.uid = 4, 1234
        archive.addfile(member, io.BytesIO(b"text"))
    folder.write(Dockerfile="FROM busybox\nADD t.tgz /added/\nCOPY t.tgz /copied/\n")
    folder.path.joinpath("t.tgz").write_bytes(data.getvalue())
    folder.ok("-t", "tars")
    shown = folder.lab.ok("run", "--rm", "tars", "sh", "-c", "cat /added/inside/file; ls /copied")
    assert shown == "textt.tgz\n"
    owner = folder.lab.ok("run", "--rm", "tars", "stat", "-c", "%u", "/added/inside/file")
    assert owner == "1234\n"


def test_dockerignore_and_wildcards(folder: Folder) -> None:
    folder.write(
        Dockerfile="FROM busybox\nWORKDIR /w\nCOPY *.txt sub/?.md ./\nCOPY . all/\n",
        **{
            ".dockerignore": "secret*\n**/*.log\n!keep.log\n",
            "a.txt": "a", "b.txt": "b", "sub__c.md": "c", "sub__long.md": "no",
            "secret.txt": "s", "sub__x.log": "x", "keep.log": "k",
        },
    )  # fmt: skip
    folder.ok("-t", "ignore")
    shown = folder.lab.ok("run", "--rm", "ignore", "sh", "-c", "pwd; ls; find all -type f | sort")
    assert shown.split() == [
        "/w", "a.txt", "all", "b.txt", "c.md",
        "all/.dockerignore", "all/Dockerfile", "all/a.txt", "all/b.txt", "all/keep.log",
        "all/sub/c.md", "all/sub/long.md",
    ]  # fmt: skip


def test_owner_and_mode_of_copies(folder: Folder) -> None:
    folder.write(
        Dockerfile="FROM busybox\nCOPY --chown=12:34 --chmod=640 f /x/y/f\nCOPY f /tmp/f\n", f="f"
    )
    (folder.path / "f").chmod(0o644)
    folder.ok("-t", "owners")
    shown = folder.lab.ok(
        "run", "--rm", "owners", "stat", "-c", "%n %u:%g %a", "/x/y", "/x/y/f", "/tmp", "/tmp/f"
    )
    assert shown == "/x/y 12:34 755\n/x/y/f 12:34 640\n/tmp 0:0 1777\n/tmp/f 0:0 644\n"
    wrong = folder
    wrong.dockerfile("FROM busybox\nCOPY --chown=nobodyknows f /f\n")
    done = wrong.run()
    assert done.returncode == 1
    assert "no such user: nobodyknows" in done.stderr


def test_a_failing_run_is_the_exit_code(folder: Folder) -> None:
    folder.dockerfile("FROM busybox\nRUN echo before; exit 37\nRUN echo after\n")
    done = folder.run()
    assert done.returncode == 37
    assert "before" in done.stdout
    assert "after\n" not in done.stdout.replace("RUN echo after\n", "")
    assert (
        "The command '/bin/sh -c echo before; exit 37' returned a non-zero code: 37" in done.stderr
    )
    assert folder.lab.ok("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "FROM busybox\nRUN true\nRNU false\n",
            "dockerfile parse error on line 3: unknown instruction: RNU",
        ),
        (
            "FROM busybox\nRUN echo a &&\n  apk add b\n",
            "dockerfile parse error on line 3: unknown instruction: apk",
        ),
        ("FROM busybox\nCOPY nosuch /\n", "COPY failed: file not found in build context"),
        ("FROM busybox\nCOPY ../x /\n", "COPY failed: forbidden path outside the build context"),
        ("FROM nosuchimageanywhere\n", "nosuchimageanywhere"),
        ("RUN x\n", "no build stage in current context"),
        ("\n", "the Dockerfile (Dockerfile) cannot be empty"),
    ],
)
def test_mistakes_are_told_in_dockers_words(folder: Folder, text: str, message: str) -> None:
    folder.dockerfile(text)
    done = folder.run()
    assert done.returncode == 1
    assert message in done.stderr


def test_a_dockerfile_from_standard_input(folder: Folder) -> None:
    output = folder.ok("-t", "piped", "-", given="FROM busybox\nRUN echo piped > /p\n")
    assert "Successfully tagged piped:latest" in output
    assert folder.lab.ok("run", "--rm", "piped", "cat", "/p") == "piped\n"


def test_heredocs_and_mounts_of_run(folder: Folder) -> None:
    folder.write(
        Dockerfile=(
            "FROM busybox\nRUN <<EOF\necho one > /one\necho two > /two\nEOF\n"
            "COPY <<EOF /three\nthree $HOME\nEOF\n"
            "RUN --mount=type=cache,target=/cache echo x >> /cache/n; wc -l < /cache/n > /count\n"
            "RUN --mount=type=bind,target=/lent cat /lent/f > /copied; ls /cache; true\n"
        ),
        f="lent\n",
    )
    folder.ok("-t", "mounts", "--no-cache")
    folder.ok("-t", "mounts", "--no-cache")
    shown = folder.lab.ok(
        "run", "--rm", "mounts", "sh", "-c", "cat /one /two /three /count /copied; ls -d /[lc]*"
    )
    assert shown == "one\ntwo\nthree \n2\nlent\n/copied\n/count\n"
    assert "Total reclaimed space: 4B" in folder.lab.ok("builder", "prune", "-f")


def test_history_and_configuration(folder: Folder) -> None:
    folder.dockerfile(
        "FROM busybox\nMAINTAINER Ada\nEXPOSE 80 53/udp\nVOLUME /a /b\nUSER 5:6\nWORKDIR /w\n"
        'LABEL a=1 b="two words"\nSTOPSIGNAL SIGINT\nHEALTHCHECK --interval=5s CMD true\n'
        'SHELL ["/bin/ash", "-c"]\nONBUILD RUN echo child\nENTRYPOINT ["top", "-b"]\n'
    )
    folder.ok("-t", "configured", "--label", "c=it's")
    found = json.loads(folder.lab.ok("image", "inspect", "configured"))[0]
    config = found["Config"]
    assert found["Author"] == "Ada"
    assert set(config["ExposedPorts"]) == {"80/tcp", "53/udp"}
    assert set(config["Volumes"]) == {"/a", "/b"}
    assert (config["User"], config["WorkingDir"], config["StopSignal"]) == ("5:6", "/w", "SIGINT")
    labels = {key: value for key, value in config["Labels"].items() if "labkit" not in key}
    assert labels == {"a": "1", "b": "two words", "c": "it's"}
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000}
    history = folder.lab.ok("history", "--no-trunc", "--format", "{{.CreatedBy}}", "configured")
    assert history.splitlines()[:12] == [
        "/bin/ash -c #(nop)  LABEL c=it's",
        '/bin/ash -c #(nop)  ENTRYPOINT ["top" "-b"]',
        "/bin/ash -c #(nop)  ONBUILD RUN echo child",
        "/bin/ash -c #(nop)  SHELL [/bin/ash -c]",
        '/bin/sh -c #(nop)  HEALTHCHECK &{["CMD-SHELL" "true"] "5s" "0s" "0s" "0s" \'\\x00\'}',
        "/bin/sh -c #(nop)  STOPSIGNAL SIGINT",
        "/bin/sh -c #(nop)  LABEL a=1 b=two words",
        "/bin/sh -c #(nop) WORKDIR /w",
        "/bin/sh -c #(nop)  USER 5:6",
        "/bin/sh -c #(nop)  VOLUME [/a /b]",
        "/bin/sh -c #(nop)  EXPOSE 80 53/udp",
        "/bin/sh -c #(nop)  MAINTAINER Ada",
    ]
    folder.dockerfile("FROM configured\n")
    output = folder.ok()
    assert "# Executing 1 build trigger" in output
    assert "child" in output


def test_a_build_that_is_broken_off_leaves_nothing(folder: Folder) -> None:
    folder.dockerfile("FROM busybox\nRUN echo started; sleep 300\n")
    process = subprocess.Popen(
        ["docker", "build", str(folder.path)],
        env=folder.lab.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line == "started\n":
            break
    process.kill()
    process.wait()
    process.stdout.close()
    containers = folder.lab.paths.host_data() / "containers"
    layers = folder.lab.paths.host_data() / "overlay2"
    deadline = time.monotonic() + 20
    while list(containers.iterdir()) or any(p.name.startswith(".tmp") for p in layers.iterdir()):
        assert time.monotonic() < deadline, list(containers.iterdir())
        time.sleep(0.05)


def test_a_daemon_killed_in_a_build_finds_and_removes_what_ran(folder: Folder) -> None:
    lab = folder.lab
    folder.dockerfile("FROM busybox\nRUN echo started; sleep 300\n")
    with subprocess.Popen(
        ["docker", "build", str(folder.path)],
        env=lab.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "started\n":
                break
        lab.kill()
        process.wait()
    lab.start()
    data = lab.paths.host_data()
    assert not list((data / "containers").iterdir())
    assert not [path for path in (data / "overlay2").iterdir() if path.name.startswith(".tmp")]
    assert not [name for name in lab.leftovers() if "sleep 300" in name]
    folder.dockerfile("FROM busybox\nRUN echo again\n")
    assert "again" in folder.ok("--no-cache")


def test_run_is_on_the_network_that_is_asked_for(lab: Lab) -> None:
    lab.ok("network", "create", "for-builds")
    show = "RUN ip route | grep default; echo end"
    for words, expected in (((), " via 172.17.0.1 "), (("--network", "for-builds"), " via 172.")):
        text = f"FROM busybox\n{show}\n"
        out = lab.ok("build", "--no-cache", *words, "-", given=text)
        assert expected in out
    assert " via " not in lab.ok("build", "--no-cache", "--network", "none", "-", given=text)
    refused = lab.docker("build", "--no-cache", "--network", "nosuch", "-", given=text)
    assert refused.returncode == 1
    assert "network nosuch not found" in refused.stderr
    assert lab.ok("network", "rm", "for-builds") == "for-builds\n"


def test_cache_mounts_are_counted_and_pruned(lab: Lab) -> None:
    fill = "RUN --mount=type=cache,target=/c,id={} dd if=/dev/zero of=/c/f bs=1k count={}\n"
    text = f"FROM busybox\n{fill.format('one', 100)}{fill.format('two', 10)}"
    lab.ok("build", "--no-cache", "-", given=text)
    _, usage = lab.request("GET", "/v1.50/system/df")
    found = {row["Description"]: row["Size"] for row in usage["BuildCache"]}
    assert found["cached mount one"] == 102400
    assert found["cached mount two"] == 10240
    out = lab.ok("builder", "prune", "-f", "--filter", "description=two")
    assert out.endswith("Total reclaimed space: 10.24kB\n")
    status, _ = lab.request("POST", "/v1.50/build/prune?filters=%7B%22nope%22%3A%5B%221%22%5D%7D")
    assert status == 400
    lab.ok("builder", "prune", "-f", "--filter", "until=24h")
    assert lab.request("GET", "/v1.50/system/df")[1]["BuildCache"] != []
    lab.ok("builder", "prune", "-af")
    assert lab.request("GET", "/v1.50/system/df")[1]["BuildCache"] == []
