"""The catalog's servers run as the images of their names do: real programs, their own entry points.

Packages that are not installed here are fetched by apt into the lab's own folder; where that cannot
be done the test is skipped with the catalog's own sentence.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from .conftest import Lab, private_lab

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def servers() -> Iterator[Lab]:
    """A lab of this module's own: what is fetched serves all its tests."""
    with private_lab() as lab:
        lab.docker("pull", "-q", "busybox")
        yield lab


def run(lab: Lab, name: str, *words: str) -> str:
    """Start a detached container of the last word; skip where its stand-in cannot be built."""
    pulled = lab.docker("pull", "-q", words[-1], timeout_s=300)
    if "cannot be downloaded" in pulled.stderr or "which is not here" in pulled.stderr:
        pytest.skip(pulled.stderr.strip())
    assert pulled.returncode == 0, pulled.stderr
    return lab.ok("run", "-d", "--name", name, *words).strip()


def until(lab: Lab, name: str, *words: str, seconds: float = 60) -> str:
    """Run a command in a container until it succeeds; its output."""
    deadline = time.monotonic() + seconds
    while True:
        done = lab.docker("exec", name, *words)
        if done.returncode == 0:
            return done.stdout
        assert time.monotonic() < deadline, f"{done.stderr}\n{lab.docker('logs', name)}"
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def no_containers_stay(servers: Lab) -> Iterator[None]:
    yield
    with contextlib.suppress(AssertionError):
        servers.ok("rm", "-fv", *servers.ok("ps", "-aq").split())


def fetch(port: int) -> tuple[str, ...]:
    """A command that prints what a server on a container's own loopback answers to GET /."""
    script = f"exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    return ("bash", "-c", script)


def test_nginx_welcomes_and_logs_to_stdout(servers: Lab) -> None:
    run(servers, "web", "nginx:1.25")
    page = until(servers, "web", *fetch(80))
    assert "Welcome to nginx!" in page
    logs = servers.docker("logs", "web")
    assert '"GET / HTTP/1.0" 200' in logs.stdout
    assert "start worker process" in logs.stderr
    assert servers.ok("inspect", "-f", "{{json .Config.ExposedPorts}}", "web") == '{"80/tcp":{}}\n'
    servers.ok("stop", "web")
    assert servers.ok("inspect", "-f", "{{.State.ExitCode}}", "web") == "0\n"


def test_httpd_works(servers: Lab) -> None:
    run(servers, "web", "httpd")
    assert "It works!" in until(servers, "web", *fetch(80))
    assert '"GET / HTTP/1.0" 200' in servers.ok("logs", "web")


def test_redis_keeps_what_it_is_told_as_its_own_user(servers: Lab) -> None:
    run(servers, "cache", "-v", "kept:/data", "redis:alpine")
    assert until(servers, "cache", "redis-cli", "ping") == "PONG\n"
    servers.ok("exec", "cache", "redis-cli", "set", "colour", "blue")
    servers.ok("exec", "cache", "redis-cli", "save")
    assert "redis-server" in servers.ok("top", "cache")
    servers.ok("rm", "-f", "cache")
    servers.ok("run", "-d", "--name", "again", "-v", "kept:/data", "redis")
    assert until(servers, "again", "redis-cli", "get", "colour") == "blue\n"


def test_postgres_wants_a_password_then_makes_its_database_once(servers: Lab) -> None:
    run(servers, "none", "postgres:16")
    servers.ok("wait", "none")
    assert "superuser password is not specified" in servers.docker("logs", "none").stderr
    words = ("-e", "POSTGRES_PASSWORD=x", "-e", "POSTGRES_DB=shop", "-e", "POSTGRES_USER=ada")
    servers.ok("run", "-d", "--name", "db", *words, "postgres:16")
    query = ("psql", "-h", "127.0.0.1", "-U", "ada", "-tAc")
    until(servers, "db", "env", "PGPASSWORD=x", *query, "select current_database()", "shop")
    servers.ok("exec", "db", "psql", "-U", "ada", "shop", "-c", "create table t(x int)")
    servers.ok("restart", "db")
    until(servers, "db", "psql", "-U", "ada", "shop", "-c", "select * from t")
    assert "Skipping initialization" in servers.ok("logs", "db")


def test_mariadb_and_mysql_make_users_and_databases(servers: Lab) -> None:
    run(servers, "none", "mysql")
    servers.ok("wait", "none")
    assert "- MYSQL_ROOT_PASSWORD" in servers.docker("logs", "none").stderr
    words = ("-e", "MYSQL_ROOT_PASSWORD=pw", "-e", "MYSQL_DATABASE=my_shop",
             "-e", "MYSQL_USER=ada", "-e", "MYSQL_PASSWORD=it's")  # fmt: skip
    servers.ok("run", "-d", "--name", "db", *words, "mysql")
    answer = until(
        servers, "db", "mysql", "-h127.0.0.1", "-uada", "-pit's", "my_shop",
        "-Ne", "select current_user()",
    )  # fmt: skip
    assert answer == "ada@%\n"
    refused = servers.docker("exec", "db", "mysql", "-h127.0.0.1", "-uroot", "-pwrong")
    assert "Access denied" in refused.stderr


def test_the_registry_answers_in_its_container(servers: Lab) -> None:
    run(servers, "registry", "-v", "images:/var/lib/registry", "registry:2")
    answer = until(servers, "registry", "wget", "-qO-", "http://127.0.0.1:5000/v2/_catalog")
    assert answer == '{"repositories":[]}\n'


def test_python_and_node_run_programs(servers: Lab) -> None:
    for image, words, answer in (
        ("python", ("python", "-c", "import ssl, sqlite3, json; print(6 * 7)"), "42\n"),
        ("node:alpine", ("-e", "console.log(6 * 7)"), "42\n"),
    ):
        run(servers, f"first-{image[:4]}", image)
        assert servers.ok("run", "--rm", image, *words) == answer
    assert servers.ok("run", "--rm", "python", "pip", "--version").startswith("pip ")


def test_the_docker_client_drives_its_own_nodes_engine(servers: Lab) -> None:
    run(servers, "client", "docker")
    socket = "/var/run/docker.sock:/var/run/docker.sock"
    listed = servers.ok("run", "--rm", "-v", socket, "docker", "ps", "-a", "--format", "{{.Names}}")
    assert "client" in listed.split()


def test_a_bundle_is_carried_to_a_lab_that_has_nothing(servers: Lab) -> None:
    import subprocess
    import sys

    def labkit(lab: Lab, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "labkit.cli", *words],
            env={**lab.env, "LABKIT_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    file = str(servers.folder / "carried.tar")
    labkit(servers, "images", "bundle", "-o", file, "busybox", "hello-world")
    with private_lab() as other:
        loaded = labkit(other, "images", "load-bundle", file)
        assert "2 images loaded" in loaded
        for name in ("busybox", "hello-world"):
            shown = ("images", "--digests", "--format", "{{.ID}} {{.Digest}}", name)
            servers.ok("pull", "-q", name)
            assert other.ok(*shown) == servers.ok(*shown)
        assert labkit(other, "images", "verify").endswith("2 images, 0 damaged.\n")
