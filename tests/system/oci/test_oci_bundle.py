"""What a bundle's config.json asks for is what its process finds (config.md, config-linux.md)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from oci_kit import Runtime, hook

pytestmark = [pytest.mark.root, pytest.mark.mounted_root]


def lines(oci: Runtime, script: str) -> list[str]:
    done = oci.shell(script)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_identity_limits_and_capabilities_are_as_written(oci: Runtime) -> None:
    def change(config: dict[str, Any]) -> None:
        process = config["process"]
        process["user"] = {"uid": 10, "gid": 20, "additionalGids": [30], "umask": 0o77}
        process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
        sets = {name: ["CAP_KILL"] for name in ("bounding", "permitted", "effective")}
        process["capabilities"] = {**sets, "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}
        process["oomScoreAdj"] = 321
        process["env"].append("FOO=bar")
        process["cwd"] = "/tmp"

    oci.change(change)
    found = lines(
        oci,
        "id -u; id -g; id -G; umask; ulimit -n; grep CapEff /proc/self/status; "
        "grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj; echo $FOO $PWD $HOME",
    )
    assert found == [
        *("10", "20", "20 30", "0077", "100"),
        *("CapEff:\t0000000000000020", "NoNewPrivs:\t1", "321", "bar /tmp /"),
    ]


def test_masked_and_readonly_paths_and_a_readonly_root(oci: Runtime) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["maskedPaths"] = ["/etc/passwd", "/proc/acpi"]
        config["linux"]["readonlyPaths"] = ["/proc/sys"]

    oci.change(change)
    done = oci.shell("cat /etc/passwd; touch /new; echo 1 > /proc/sys/kernel/hostname")
    assert done.stdout == ""
    assert done.stderr.count("Read-only file system") == 2


def test_mounts_have_their_options_in_their_order(oci: Runtime) -> None:
    (oci.bundle / "data").mkdir()
    (oci.bundle / "data/file").write_text("from the bundle\n")

    def change(config: dict[str, Any]) -> None:
        config["mounts"] += [
            {"destination": "/mnt", "type": "bind", "source": "data", "options": ["rbind", "ro"]},
            {
                "destination": "/tmp",
                "type": "tmpfs",
                "source": "t",
                "options": ["size=64k", "noexec"],
            },
        ]

    oci.change(change)
    (oci.bundle / "rootfs/mnt").mkdir()
    found = lines(
        oci, "cat /mnt/file; touch /mnt/x 2>/dev/null || echo refused; grep ' /tmp ' /proc/mounts"
    )
    assert found[:2] == ["from the bundle", "refused"]
    assert "noexec" in found[2]
    assert "size=64k" in found[2]


def test_kernel_parameters_are_set_in_namespaces_of_its_own_only(oci: Runtime) -> None:
    oci.change(lambda config: config["linux"].update(sysctl={"kernel.shmmax": "1234567"}))
    assert lines(oci, "cat /proc/sys/kernel/shmmax") == ["1234567"]
    oci.change(lambda config: config["linux"].update(sysctl={"vm.swappiness": "1"}))
    done = oci.shell("true")
    assert 'sysctl "vm.swappiness" is not in a separate kernel namespace' in done.stderr


def test_namespaces_are_new_shared_or_joined_by_path(oci: Runtime) -> None:
    oci.command("sleep", "1000")
    oci.create("first")
    oci("start", "first")
    pid = oci.state("first")["pid"]

    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"] = [
            {"type": "mount"},
            {"type": "pid", "path": f"/proc/{pid}/ns/pid"},
            {"type": "network", "path": f"/proc/{pid}/ns/net"},
            {"type": "ipc"},
        ]
        del config["hostname"]

    oci.change(change)
    found = lines(
        oci, "for n in net uts; do stat -Lc %i /proc/self/ns/$n; done; ps | grep -c sleep"
    )
    assert found[0] == str(os.stat(f"/proc/{pid}/ns/net").st_ino)
    assert found[1] == str(os.stat("/proc/self/ns/uts").st_ino)
    assert int(found[2]) >= 1


def test_a_user_namespace_has_the_maps_of_the_bundle(oci: Runtime) -> None:
    def change(config: dict[str, Any]) -> None:
        linux = config["linux"]
        linux["namespaces"].append({"type": "user"})
        for key in ("uidMappings", "gidMappings"):
            linux[key] = [{"containerID": 0, "hostID": 200000, "size": 1000}]

    oci.change(change)
    for path in (oci.bundle / "rootfs").rglob("*"):
        os.chown(path, 200000, 200000, follow_symlinks=False)
    os.chown(oci.bundle / "rootfs", 200000, 200000)
    for folder in (oci.folder, oci.bundle):
        folder.chmod(0o755)
    found = lines(oci, "id -u; cat /proc/self/uid_map")
    assert [line.split() for line in found] == [["0"], ["0", "200000", "1000"]]


def test_a_system_call_filter_is_obeyed(oci: Runtime) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [], "syscalls": [rule]}
    oci.change(lambda config: config["linux"].update(seccomp=profile))
    done = oci.shell("busybox mkdir /tmp/x")
    assert "Operation not supported" in done.stderr


def test_devices_of_the_list_are_there_and_others_may_not_be_opened(oci: Runtime) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["capabilities"]["effective"].append("CAP_MKNOD")
        config["process"]["capabilities"]["permitted"].append("CAP_MKNOD")
        config["linux"]["devices"] = [
            {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666}
        ]

    oci.change(change)
    found = lines(oci, "stat -c '%F %t:%T' /dev/mine; stat -c '%t:%T' /dev/null")
    assert found == ["character special file 1:5", "1:3"]


def test_limits_are_set_and_updated_live(oci: Runtime) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["resources"]["pids"] = {"limit": 50}

    oci.change(change)
    oci.command("sleep", "1000")
    oci.create()
    oci("start", "one")
    stats = json.loads(oci("events", "--stats", "one").stdout)
    if stats["data"]["pids"]["limit"] == 0:
        pytest.skip("no pids controller here")
    assert (stats["type"], stats["id"], stats["data"]["pids"]["limit"]) == ("stats", "one", 50)
    oci("update", "--pids-limit", "70", "one")
    assert json.loads(oci("events", "--stats", "one").stdout)["data"]["pids"]["limit"] == 70


def test_hooks_run_in_order_with_the_state_on_their_stdin(oci: Runtime, short_tmp: Path) -> None:
    log = short_tmp / "log"

    def record(name: str) -> dict[str, Any]:
        script = f'read state; echo "{name} $state" >> {log}'
        return dict(hook(short_tmp / name, script))

    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    inside = oci.bundle / "rootfs/bin/started"
    hook(inside, "cat > /dev/null; [ $(id -u) = 0 ]")
    hooks: dict[str, Any] = {kind: [record(kind)] for kind in kinds}
    hooks["startContainer"] = [{"path": "/bin/started", "args": ["started"]}]
    oci.change(lambda config: config.update(hooks=hooks, annotations={"a": "b"}))
    assert oci.shell("true").returncode == 0
    told = [line.partition(" ") for line in log.read_text().splitlines()]
    assert [name for name, _, _ in told] == list(kinds)
    states = [json.loads(text) for _, _, text in told]
    assert [state["status"] for state in states][:3] == ["creating"] * 3
    assert states[-1]["status"] == "stopped"
    assert all(state["id"] == "one" and state["annotations"] == {"a": "b"} for state in states)
    assert states[0]["pid"] > 0


def test_a_createcontainer_hook_sees_the_containers_mounts_by_the_machines_paths(
    oci: Runtime, short_tmp: Path
) -> None:
    seen = short_tmp / "seen"
    made = hook(
        short_tmp / "look", f"grep -c {oci.bundle}/rootfs/dev/shm /proc/self/mountinfo > {seen}"
    )
    oci.change(lambda config: config.update(hooks={"createContainer": [dict(made)]}))
    assert oci.shell("true").returncode == 0
    assert seen.read_text() == "1\n"


def test_a_failing_or_slow_hook_undoes_the_container(oci: Runtime, short_tmp: Path) -> None:
    failing = hook(short_tmp / "fail", "echo no luck; exit 3")
    oci.change(lambda config: config.update(hooks={"createRuntime": [dict(failing)]}))
    done = oci.shell("true")
    assert done.returncode == 1
    assert (
        "error running createRuntime hook: exit status 3, stdout: , stderr: no luck" in done.stderr
    )
    slow = {**hook(short_tmp / "slow", "exec sleep 100"), "timeout": 1}
    oci.change(lambda config: config.update(hooks={"createRuntime": [slow]}))
    assert "hook ran past specified timeout of 1s" in oci.shell("true").stderr
    assert oci("list", "-q").stdout == ""


def test_a_startcontainer_hook_has_no_more_rights_than_the_container(oci: Runtime) -> None:
    script = "grep CapEff /proc/self/status >&2; grep NoNewPrivs /proc/self/status >&2; exit 1"
    hook(oci.bundle / "rootfs/bin/rights", script)
    oci.change(lambda config: config.update(hooks={"startContainer": [{"path": "/bin/rights"}]}))
    done = oci.shell("true")
    assert "CapEff:\t0000000020000420\nNoNewPrivs:\t1" in done.stderr


def test_a_terminal_goes_to_the_console_socket(oci: Runtime) -> None:
    oci.change(lambda config: config["process"].update(terminal=True))
    oci.command("sh", "-c", "tty; stat -c %t:%T /dev/console; sleep 1000")
    place = oci.folder / "console.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        oci.create("one", "--console-socket", str(place))
        link, _ = listener.accept()
        with link:
            _, handles, _, _ = socket.recv_fds(link, 64, 1)
    with open(handles[0], "rb", buffering=0) as master:
        oci("start", "one")
        text = b""
        while text.count(b"\n") < 2:
            text += master.read(100)
        assert text.split() == [b"/dev/pts/0", b"88:0"]
        oci("delete", "--force", "one")


def test_a_terminal_without_anybody_to_take_it_is_refused(oci: Runtime) -> None:
    oci.change(lambda config: config["process"].update(terminal=True))
    done = oci("create", "--bundle", str(oci.bundle), "one", check=False)
    assert "cannot allocate tty" in done.stderr


def test_descriptors_are_passed_on_when_asked_for_and_only_then(oci: Runtime) -> None:
    oci.command("sh", "-c", "ls /proc/self/fd | grep -v 255; cat <&3")
    (oci.folder / "text").write_text("through three\n")
    place = f"/labkit-oci/{oci.folder.name}"
    oci.change(lambda config: config["linux"].update(cgroupsPath=place))
    with open(oci.folder / "text") as file:
        os.set_inheritable(file.fileno(), True)
        script = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execvp(sys.argv[2], sys.argv[2:])"
        )
        words = oci.words("run", "--preserve-fds", "1", "--bundle", str(oci.bundle), "one")
        done = subprocess.run(
            [sys.executable, "-c", script, str(file.fileno()), *words],
            pass_fds=(file.fileno(),),
            capture_output=True,
            text=True,
            check=True,
        )
    found = done.stdout.splitlines()
    assert found[-1] == "through three"
    assert found[:-1] == ["0", "1", "2", "3", "4"]  # 4 is what `ls` itself opened


def test_a_mount_shows_its_files_under_mapped_ids(oci: Runtime) -> None:
    (oci.bundle / "data").mkdir()
    (oci.bundle / "data/file").touch()
    os.chown(oci.bundle / "data/file", 1000, 1000)
    one = [{"containerID": 0, "hostID": 5000, "size": 10000}]
    mount = {
        "destination": "/tmp",
        "type": "bind",
        "source": "data",
        "options": ["rbind", "idmap"],
        "uidMappings": one,
        "gidMappings": one,
    }
    oci.change(lambda config: config["mounts"].append(mount))
    done = oci.shell("stat -c %u:%g /tmp/file")
    if "map its ids" in done.stderr:
        pytest.skip("this file system has no idmapped mounts")
    assert done.stdout == "6000:6000\n"


def test_what_cannot_be_had_is_refused_by_name(oci: Runtime) -> None:
    for change, words in (
        (lambda c: c["process"].update(apparmorProfile="x"), "apparmor not supported"),
        (lambda c: c["process"].update(selinuxLabel="x"), "selinux is disabled"),
        (lambda c: c["process"].update(cwd="relative"), "Cwd must be an absolute path"),
        (lambda c: c["process"].update(args=[]), "args must not be empty"),
        (lambda c: c.update(ociVersion="2.0"), "unsupported ociVersion"),
        (lambda c: c["root"].update(path="nosuch"), "does not exist"),
    ):
        kept = oci.config
        oci.change(change)
        done = oci("create", "--bundle", str(oci.bundle), "one", check=False)
        assert done.returncode == 1
        assert words in done.stderr
        (oci.bundle / "config.json").write_text(json.dumps(kept))
    for flags in (["--systemd-cgroup", "list"], ["create", "--no-pivot", "one"]):
        assert "refused" in oci(*flags, check=False).stderr


def test_features_and_help_name_what_is_there(oci: Runtime) -> None:
    features = json.loads(oci("features").stdout)
    assert "createContainer" in features["hooks"]
    assert features["linux"]["mountExtensions"]["idmap"]["enabled"]
    for command in ("create", "exec", "update"):
        assert command in oci("--help").stdout
        assert "flags:" in oci(command, "--help").stdout
    assert oci("nosuch", check=False).stderr.strip() == "unknown command: nosuch"
    assert "flag provided but not defined: --nosuch" in oci("list", "--nosuch", check=False).stderr
