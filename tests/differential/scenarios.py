"""The command lines, as a student and a script type them. `@` at the beginning of a word is the
engine's own folder. Each scenario begins without containers, volumes and networks of its own.
"""

from __future__ import annotations

__all__ = ["API", "SCENARIOS", "SENTENCES"]

_TEXTS: dict[str, str] = {
    "run and its exit codes": r"""
run --name c1 busybox echo hello
ps -a
rm c1
run --name c1 busybox sh -c 'exit 7'
rm c1
run --name c1 busybox nosuchprogram
rm c1
run --name c1 busybox /etc/passwd
rm c1
run --name c1 busybox sh -c 'kill -9 $$'
inspect -f {{.State.ExitCode}} c1
run --rm -w /new/dir busybox pwd
run --rm -e A=1 -e B= busybox sh -c 'echo $A-$B'
run --rm --hostname box busybox hostname
run --rm -u 1000:1001 busybox id
run --rm --read-only busybox touch /x
run --rm --entrypoint echo busybox hi
run --rm --init busybox ps
run --rm -v /data busybox ls /data
run --rm --tmpfs /t busybox stat -c %a /t
run --rm --ulimit nofile=100 busybox sh -c 'ulimit -n'
run --rm --memory 64m busybox true
run --rm --add-host a:1.2.3.4 busybox grep a$ /etc/hosts
run --rm --cap-drop ALL busybox chown 1 /tmp
run --rm busybox cat /proc/1/cmdline
""",
    "a container's life": r"""
create --name c1 busybox sleep 1d
ps -a
start c1
ps
pause c1
ps
exec c1 true
unpause c1
top c1
rename c1 c2
port c2
stop -t 0 c2
stop c2
wait c2
ps -a
start c2
kill c2
kill c2
restart -t 0 c2
rm c2
rm -f c2
rm -f c2
""",
    "logs": r"""
run --name c1 busybox sh -c 'echo out; sleep 0.3; echo err >&2'
logs c1
logs --tail 1 c1
logs -t c1
logs --since 1h c1
logs --until 1h c1
logs nobody
logs --tail x c1
run --name c2 --log-driver none busybox echo x
logs c2
run --name c3 --log-opt labels=a --label a=b busybox echo x
logs --details c3
""",
    "exec": r"""
run -d --name c1 busybox sleep 1d
exec c1 echo hi
exec c1 sh -c 'exit 3'
exec c1 nosuch
exec -w / c1 pwd
exec -e X=1 c1 sh -c 'echo $X'
exec -u 5 c1 id -u
exec nobody true
stop -t 0 c1
exec c1 true
""",
    "inspect and formats": r"""
run -d --name c1 busybox sleep 1d
inspect -f {{.State.Status}} c1
inspect -f '{{json .Config.Cmd}}' c1
inspect -f {{.Nothing}} c1
inspect nobody
inspect --type volume c1
ps --format '{{.Names}} {{.Image}} {{.Status}}'
ps -q --no-trunc
ps -s --format {{.Names}}
ps --filter name=c --format {{.Names}}
ps --filter status=exited -q
ps --filter frob=1
ps --filter status=odd
ps -l --format {{.Names}}
diff c1
stats --no-stream nobody
container ls --format 'table {{.Names}}\t{{.Ports}}'
""",
    "volumes": r"""
volume create kept
volume create kept
volume ls
volume ls -q
volume ls -f dangling=true -q
run --name c1 -v kept:/d busybox touch /d/f
volume rm kept
rm c1
run --rm -v kept:/d:ro busybox touch /d/g
volume inspect -f '{{.Driver}} {{.Scope}}' kept
volume rm kept
volume rm kept
volume inspect kept
volume create a
volume create ../x
volume create -d nosuch x1
volume create -o frob=1 x1
volume create -o type=tmpfs x1
run --rm -v name:/ busybox true
run --rm -v rel/path:/d busybox true
run --rm -v x1:/d:frob busybox true
run --rm -v /a:/d -v /b:/d busybox true
run --rm --mount type=bind,src=/no/where,dst=/d busybox true
run --rm --mount type=volume,src=x2,dst=/d busybox ls /d
run --rm --tmpfs /d:frob busybox true
run --rm --mount type=tmpfs,dst=/d,tmpfs-mode=700 busybox stat -c %a /d
run --rm --volumes-from nobody busybox true
volume prune -f
""",
    "files": r"""
run -d --name c1 busybox sleep 1d
cp c1:/etc/passwd @/passwd
cp @/passwd c1:/tmp/copy
exec c1 cat /tmp/copy
cp c1:/nowhere @
cp @/missing c1:/tmp
cp @/passwd c1:/no/dir/x
cp @/passwd nobody:/x
cp c1:/etc @/etc
diff c1
""",
    "images": r"""
images
images -q
image ls --format {{.Repository}}:{{.Tag}}
tag busybox mine:1
images
rmi mine:1
rmi nosuch
image inspect nosuch
tag nosuch x
tag busybox Upper
history --format {{.CreatedBy}} busybox
run --name c1 busybox true
rmi busybox
commit c1 kept:1
commit --change 'CMD ["date"]' -m note c1 kept:2
inspect -f '{{.Config.Cmd}} {{.Comment}}' kept:2
commit --change 'RUN x' c1
commit nobody
rmi kept:1 kept:2
image prune -f
""",
    "what cannot be": r"""
run --name c1 --memory 1m busybox true
run --rm --cpus 900 busybox true
run --rm --restart frob busybox true
run --restart always --rm busybox true
create --name 'a b' busybox
create --name c1 busybox true
create --name c1 busybox true
run --rm --network nosuch busybox true
run --rm --cap-add FROB busybox true
run --rm --security-opt frob=1 busybox true
run --rm --log-driver frob busybox true
run --rm --log-opt frob=1 busybox true
run --rm --log-opt max-file=3 busybox true
run --rm -w rel busybox true
run --rm -u nobodyhere busybox true
rename c1 c1
rename nobody x
kill -s FROB c1
update --memory 1m c1
start nobody
stop nobody
pause c1
unpause c1
attach c1
top c1
wait nobody
port nobody
restart nobody
run --rm --pid container:nobody busybox true
run --rm --ipc frob busybox true
run --rm --device /dev/nosuch busybox true
run --rm --runtime frob busybox true
run --rm --health-cmd x --health-interval 1ns busybox true
events --until 1 --filter frob=1
""",
    "restart and health": r"""
run --name c1 --restart on-failure:2 busybox false
wait c1
inspect -f {{.RestartCount}} c1
run -d --name c2 --health-cmd true --health-interval 100ms busybox sleep 1d
inspect -f '{{len .State.Health.Log}}' c1
update --restart no c2
rm -f c1 c2
""",
    "networks": r"""
network ls
network create n1
network create n1
network ls
network inspect -f {{.Driver}} n1
run -d --name c1 --network n1 busybox sleep 1d
run --rm --network n1 busybox ping -c 1 -W 2 c1
network rm n1
network disconnect n1 c1
network connect n1 c1
network connect n1 nobody
network inspect nosuch
network rm nosuch
rm -f c1
network rm n1
network rm bridge
network create -d frob n2
run --rm --network none busybox ls /sys/class/net
run --rm --network host busybox true
network prune -f
""",
    "tidying up": r"""
run --name c1 busybox true
container prune -f
ps -aq
system df
system prune -f
volume prune -f
""",
}
SCENARIOS = {name: text.strip().splitlines() for name, text in _TEXTS.items()}
"""Command lines; a later one finds what an earlier one made."""

SENTENCES: list[tuple[str, str, object]] = [
    ("GET", "/v1.41/nosuch", None),
    ("GET", "/v1.20/info", None),
    ("GET", "/v9.99/info", None),
    ("POST", "/v1.41/containers/create", {}),
    ("POST", "/v1.41/containers/create", {"Image": 5}),
    ("POST", "/v1.41/containers/create", {"Image": "busybox", "HostConfig": {"Memory": "x"}}),
    ("POST", "/v1.41/containers/create", {"Image": "nosuch"}),
    ("GET", "/v1.41/containers/nobody/json", None),
    ("GET", "/v1.41/containers/nobody/logs?stdout=1", None),
    ("GET", "/v1.41/containers/json?limit=x", None),
    ("GET", "/v1.41/containers/json?filters=x", None),
    ("POST", "/v1.41/containers/nobody/start", None),
    ("POST", "/v1.41/containers/nobody/wait?condition=frob", None),
    ("POST", "/v1.41/containers/nobody/resize?h=x&w=1", None),
    ("POST", "/v1.41/containers/nobody/rename", None),
    ("DELETE", "/v1.41/containers/nobody", None),
    ("GET", "/v1.41/exec/nobody/json", None),
    ("POST", "/v1.41/exec/nobody/start", {}),
    ("GET", "/v1.41/images/nosuch/json", None),
    ("DELETE", "/v1.41/images/nosuch", None),
    ("GET", "/v1.41/volumes/nosuch", None),
    ("GET", "/v1.41/networks/nosuch", None),
    ("DELETE", "/v1.41/volumes/nosuch", None),
    ("POST", "/v1.41/volumes/create", {"Name": "a/b"}),
    ("POST", "/v1.41/commit?container=nobody", {}),
    ("GET", "/v1.41/events?since=x", None),
    ("HEAD", "/v1.41/containers/nobody/archive?path=/", None),
    ("GET", "/v1.41/containers/nobody/archive?path=/", None),
    ("GET", "/v1.41/containers/nobody/archive", None),
]
"""Requests whose status and message are compared."""

_API_TEXT = """
/_ping
/version
/info
/containers/json?all=1
/containers/json?all=1&size=1
/containers/c1/json
/containers/c1/json?size=1
/containers/c1/top
/containers/c1/changes
/containers/c1/stats?stream=0
/images/json
/images/busybox/json
/images/busybox/history
/volumes
/volumes/v1
/networks
/networks/bridge
/system/df
/events?since=1&until=2
"""
API = _API_TEXT.split()
"""Answers whose keys and types are compared, with container c1 running and volume v1."""
