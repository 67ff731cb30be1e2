"""Networks beside Docker Engine, a hand-made bridge, and the libraries that were not taken.

    python -m tests.bench.bench_network [--rounds 5] [--containers 200] [only …]

Parts: engine (network create, two containers, a look-up and a ping, interleaved with dockerd in a
network namespace of its own), dns (the resolver asked from inside a container), throughput (iperf3
between two containers and across a bridge made by hand), crowd (the first and the last containers
of many on one network), libraries (netlink and DNS by hand beside pyroute2 and dnspython, where
those are installed). Needs root. Prints tables and asserts nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import http.client
import io
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from labkit.host.network import dnswire  # noqa: E402 - the path comes first
from tests.bench.peers import daemon  # noqa: E402

_NEWNET = 0x40000000


class Api:
    """An engine's socket, one kept connection."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, method: str, path: str, body: Any = None, raw: bytes | None = None) -> Any:
        """One request; the parsed answer, None when there is none."""
        connection = http.client.HTTPConnection("engine", timeout=120)
        with contextlib.closing(connection):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(self._path))
            data = raw if raw is not None else None if body is None else json.dumps(body)
            kind = "application/x-tar" if raw is not None else "application/json"
            connection.request(method, path, data, {} if data is None else {"Content-Type": kind})
            answer = connection.getresponse()
            text = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[-300:]!r}")
        try:
            return json.loads(text)
        except ValueError:
            return text

    def start(self, name: str, network: str) -> int:
        """A sleeping container; its pid."""
        body = {
            "Image": "busybox",
            "Cmd": ["sleep", "1000"],
            "HostConfig": {"NetworkMode": network},
        }
        self.ask("POST", f"/containers/create?name={name}", body)
        self.ask("POST", f"/containers/{name}/start")
        return 0

    def pid(self, name: str) -> int:
        return int(self.ask("GET", f"/containers/{name}/json")["State"]["Pid"])

    def exec(self, name: str, *argv: str) -> str:
        body = {"Cmd": list(argv), "AttachStdout": True, "AttachStderr": True}
        found = self.ask("POST", f"/containers/{name}/exec", body)
        answer = self.ask("POST", f"/exec/{found['Id']}/start", {"Detach": False})
        return answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)

    def remove(self, *names: str) -> None:
        for name in names:
            self.ask("DELETE", f"/containers/{name}?force=1")


def _root_tar() -> bytes:
    """A root file system with a static busybox."""
    stream = io.BytesIO()
    program = Path("/bin/busybox").read_bytes()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
        for name in ("sh", "sleep", "ping"):
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return stream.getvalue()


def _wait(api: Api) -> None:
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError):
            api.ask("GET", "/_ping")
            return
        if time.monotonic() > deadline:
            raise RuntimeError("an engine does not answer")
        time.sleep(0.05)


@contextlib.contextmanager
def labkit() -> Iterator[tuple[Api, int]]:
    """A lab of its own, and its daemon's pid."""
    folder = Path(tempfile.mkdtemp(prefix="lkb", dir="/tmp"))
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("LABKIT_")},
        "LABKIT_HOME": str(folder / "home"),
        "LABKIT_RUN": str(folder / "run"),
        "PYTHONPATH": str(ROOT),
    }
    try:
        with daemon([sys.executable, "-m", "labkit.daemon"], env) as process:
            api = Api(folder / "run" / "docker.sock")
            _wait(api)
            api.ask("POST", "/images/create?fromImage=busybox&tag=latest")
            yield api, process.pid
            Api(folder / "run" / "labkit.sock").ask(
                "POST", "/v1/shutdown", {"stop_containers": True}
            )
            process.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def dockerd() -> Iterator[Api | None]:
    """Docker Engine with its bridges and rules, all in a network namespace that dies with it."""
    if shutil.which("dockerd") is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="lkd", dir="/tmp"))
    words = [
        *("unshare", "-n", "dockerd", "--storage-driver=overlay2"),
        *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
        *("--pidfile", str(folder / "pid"), "-H", f"unix://{folder}/d.sock"),
    ]
    try:
        with daemon(words, log=folder / "log"):
            api = Api(folder / "d.sock")
            try:
                _wait(api)
            except RuntimeError:
                print("dockerd:", (folder / "log").read_text()[-400:])
                yield None
                return
            api.ask("POST", "/images/create?fromSrc=-&repo=busybox&tag=latest", raw=_root_tar())
            yield api
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _scene(api: Api) -> float:
    """Network, two containers, look-up and ping: milliseconds; removed afterwards, untimed."""
    begin = time.perf_counter()
    api.ask("POST", "/networks/create", {"Name": "bench", "CheckDuplicate": True})
    api.start("one", "bench")
    api.start("two", "bench")
    said = api.exec("one", "ping", "-c", "1", "two")
    spent = (time.perf_counter() - begin) * 1000
    if "1 packets received" not in said:
        raise RuntimeError(f"no ping: {said}")
    api.remove("one", "two")
    api.ask("DELETE", "/networks/bench")
    return spent


def _line(name: str, values: list[float], unit: str, base: float | None = None) -> None:
    middle = statistics.median(values)
    ratio = "" if not base else f"   x {middle / base:.3f}"
    print(f"  {name:42} {middle:10.2f} {unit}  ({min(values):.2f} to {max(values):.2f}){ratio}")


def engine(rounds: int) -> None:
    """The whole scene, A B A B."""
    print(f"network create + two containers + look-up + ping, {rounds} rounds")
    ours: list[float] = []
    theirs: list[float] = []
    with labkit() as (lab, _), dockerd() as real:
        for _ in range(rounds):
            ours.append(_scene(lab))
            if real is not None:
                theirs.append(_scene(real))
            time.sleep(0.12)
    if theirs:
        _line("dockerd", theirs, "ms")
    _line("labkit", ours, "ms", statistics.median(theirs) if theirs else None)


@contextlib.contextmanager
def _inside(pid: int) -> Iterator[None]:
    """This thread in a process's network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(there, _NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        libc.setns(home, _NEWNET)
        os.close(home)
        os.close(there)


def dns(rounds: int) -> None:
    """The resolver, asked one question after the other."""
    count = 400 * rounds
    print(f"DNS at 127.0.0.11, {count} questions from inside, the asker's Python included")
    with labkit() as (lab, pid):
        lab.ask("POST", "/networks/create", {"Name": "bench"})
        lab.start("one", "bench")
        lab.start("two", "bench")
        with _inside(lab.pid("one")):
            asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        asker.settimeout(5)
        asker.connect(("127.0.0.11", 53))
        spent = []
        with asker:
            for number in range(count):
                question = dnswire.query(number & 0xFFFF, "two")
                begin = time.perf_counter()
                asker.send(question)
                asker.recv(512)
                spent.append((time.perf_counter() - begin) * 1000)
        spent.sort()
        print(f"  p50 {spent[count // 2]:.3f} ms, p99 {spent[count * 99 // 100]:.3f} ms, "
              f"p99.9 {spent[count * 999 // 1000]:.3f} ms")  # fmt: skip
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(("VmRSS", "VmHWM")):
                print("  daemon", line)
        lab.remove("one", "two")


def _iperf(server: int, client: int, address: str, seconds: int) -> float:
    """Gigabits per second between two namespaces."""

    def inside(pid: int) -> list[str]:
        return ["nsenter", f"--net=/proc/{pid}/ns/net", "iperf3"]

    listening = subprocess.Popen(
        [*inside(server), "-s", "-1", "--forceflush"], stdout=subprocess.PIPE, text=True
    )
    assert listening.stdout is not None
    for line in listening.stdout:
        if "listening" in line:
            break
    done = subprocess.run(
        [*inside(client), "-c", address, "-t", str(seconds), "-J"], capture_output=True, check=True
    )
    listening.communicate(timeout=20)
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9


@contextlib.contextmanager
def _by_hand() -> Iterator[tuple[int, int]]:
    """Two namespaces on a bridge in a third, as a textbook makes them: the outer two's pids."""
    sleepers = [subprocess.Popen(["unshare", "-n", "sleep", "600"]) for _ in range(3)]
    try:
        time.sleep(0.3)
        middle = sleepers[0].pid

        def do(text: str) -> None:
            subprocess.run(["nsenter", f"--net=/proc/{middle}/ns/net", *text.split()], check=True)

        do("ip link add br0 type bridge")
        do("ip link set br0 up")
        do("ip addr add 10.123.0.1/24 dev br0")
        for number, process in enumerate(sleepers[1:], 1):
            do(f"ip link add v{number} type veth peer name eth0 netns {process.pid}")
            do(f"ip link set v{number} master br0 up")
            inner = ["nsenter", f"--net=/proc/{process.pid}/ns/net", "ip"]
            subprocess.run([*inner, "addr", "add", f"10.123.0.{number + 1}/24", "dev", "eth0"],
                           check=True)  # fmt: skip
            subprocess.run([*inner, "link", "set", "eth0", "up"], check=True)
        yield sleepers[1].pid, sleepers[2].pid
    finally:
        for process in sleepers:
            process.kill()
            process.wait()


def throughput(rounds: int) -> None:
    """iperf3 through our bridge and through one made by hand."""
    if shutil.which("iperf3") is None:
        print("throughput: iperf3 is not installed")
        return
    print(f"iperf3, {rounds} rounds of 2 s each, interleaved")
    ours: list[float] = []
    theirs: list[float] = []
    with labkit() as (lab, _), _by_hand() as (one, two):
        lab.ask("POST", "/networks/create", {"Name": "bench"})
        lab.start("one", "bench")
        lab.start("two", "bench")
        a, b = lab.pid("one"), lab.pid("two")
        for _ in range(rounds):
            theirs.append(_iperf(one, two, "10.123.0.2", 2))
            ours.append(_iperf(a, b, "172.18.0.2", 2))
        lab.remove("one", "two")
    _line("by hand", theirs, "Gbit/s")
    _line("labkit", ours, "Gbit/s", statistics.median(theirs))


def crowd(containers: int) -> None:
    """Start times of the first and the last of many on one network."""
    print(f"{containers} containers on one network, each started in turn")
    spent = []
    with labkit() as (lab, pid):
        lab.ask("POST", "/networks/create", {"Name": "crowd"})
        for number in range(containers):
            body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "StopSignal": "SIGKILL",
                    "HostConfig": {"NetworkMode": "none"}}  # fmt: skip
            lab.ask("POST", f"/containers/create?name=c{number:03}", body)
            lab.ask("POST", f"/containers/c{number:03}/start")
            lab.ask("POST", "/networks/none/disconnect", {"Container": f"c{number:03}"})
            begin = time.perf_counter()
            lab.ask("POST", "/networks/crowd/connect", {"Container": f"c{number:03}"})
            spent.append((time.perf_counter() - begin) * 1000)
        tenth = max(containers // 10, 1)
        _line(f"connect, first {tenth}", spent[:tenth], "ms")
        _line(f"connect, last {tenth}", spent[-tenth:], "ms", statistics.median(spent[:tenth]))
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                print("  daemon", line)


def _timed(work: Callable[[], object], count: int) -> list[float]:
    spent = []
    for _ in range(count):
        begin = time.perf_counter()
        work()
        spent.append((time.perf_counter() - begin) * 1000)
    return spent


def _memory_of(statement: str) -> int:
    """Kilobytes that a Python process has resident after a statement."""
    code = f"{statement}\nfor line in open('/proc/self/status'):\n if 'VmRSS' in line: print(line)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    return int(done.stdout.split()[1]) if done.stdout else 0


def libraries(rounds: int) -> None:
    """What the hand-made encodings cost beside the libraries'."""
    print("by hand and by library: a veth pair, up, on a bridge; one DNS answer; resident memory")
    _netlink_compared(20 * rounds)
    _dns_compared(2000)
    base = _memory_of("import asyncio, sqlite3")
    for name, statement in (
        ("labkit.host.network", "from labkit.host.network import links, rules, dns"),
        ("pyroute2", "import pyroute2"),
        ("dnspython", "import dns.message, dns.rrset"),
    ):
        found = _memory_of(f"import asyncio, sqlite3\n{statement}")
        if found:
            print(f"  {'import ' + name:42} {(found - base) / 1024:10.1f} MB")


def _netlink_compared(count: int) -> None:
    from labkit.host.network import links
    from labkit.host.network.netlink import NetlinkSocket

    libc = ctypes.CDLL(None, use_errno=True)
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    libc.unshare(_NEWNET)
    with NetlinkSocket() as handle:
        handle.send([links.add_bridge("br0")])
        bridge = links.index_of("br0")

        def ours() -> None:
            handle.send([links.add_veth("va", "vb", master=bridge)])

        mine = []
        for _ in range(count):
            mine += _timed(ours, 1)
            handle.send([links.delete_link(links.index_of("va"))])
        _line("netlink by hand", mine, "ms")
        with contextlib.suppress(ImportError):
            from pyroute2 import IPRoute

            with IPRoute() as route:

                def theirs() -> None:
                    route.link("add", ifname="va", kind="veth", peer="vb", master=bridge,
                               state="up")  # fmt: skip

                other = []
                for _ in range(count):
                    other += _timed(theirs, 1)
                    handle.send([links.delete_link(links.index_of("va"))])
                _line("pyroute2", other, "ms", statistics.median(mine))
    sys.stdout.flush()
    os._exit(0)


def _dns_compared(count: int) -> None:
    import ipaddress

    question = dnswire.query(7, "web.shop")
    address = ipaddress.ip_address("172.18.0.2")

    def ours() -> bytes:
        found = dnswire.read_question(question)
        return dnswire.answer(found, 0, [dnswire.address_record(address)])

    mine = _timed(ours, count)
    _line("DNS question read and answered, by hand", mine, "ms")
    with contextlib.suppress(ImportError):
        import dns.message
        import dns.rrset

        def theirs() -> bytes:
            found = dns.message.from_wire(question)
            answer = dns.message.make_response(found)
            answer.answer.append(
                dns.rrset.from_text(found.question[0].name, 600, "IN", "A", "172.18.0.2")
            )
            return bytes(answer.to_wire())

        _line("dnspython", _timed(theirs, count), "ms", statistics.median(mine))


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--containers", type=int, default=200)
    parser.add_argument("only", nargs="*")
    options = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "engine": lambda: engine(options.rounds),
        "dns": lambda: dns(options.rounds),
        "throughput": lambda: throughput(options.rounds),
        "crowd": lambda: crowd(options.containers),
        "libraries": lambda: libraries(options.rounds),
    }
    for name, part in parts.items():
        if not options.only or name in options.only:
            part()


if __name__ == "__main__":
    main()
