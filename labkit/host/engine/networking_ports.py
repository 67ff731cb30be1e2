"""Published ports: which are asked for, which are given, and who listens for them.

A port is published twice. In the lab host's namespace nftables send it to the container, as
Docker's rules do. On the machine, where people sit with their browsers, the daemon listens on the
loopback (more only with `labkit up --publish-on`) and passes connections on from inside the lab
host's namespace, so nothing of the machine's own network is changed.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.base.errors import InvalidParameter, LabkitError, SystemFailure
from labkit.host.engine.config import ContainerConfig
from labkit.host.engine.hostconfig import HostConfig
from labkit.host.engine.networks_model import Endpoint, Network

if TYPE_CHECKING:
    from labkit.host.engine.container import Container
    from labkit.host.engine.context import Context
    from labkit.host.network.plumbing import Plumbing
    from labkit.host.network.proxy import Proxy
    from labkit.host.network.rules import PortRule

__all__ = ["PortRequest", "Publisher", "port_requests", "ports_json", "recorded_rules"]

Json = dict[str, Any]

EPHEMERAL = range(32768, 61000)
"""Where Docker looks for a port when none is named (ip_local_port_range)."""


@dataclass(frozen=True, slots=True)
class PortRequest:
    """One binding asked for. `first` 0 is any free port; `host` empty is every address."""

    port: int
    protocol: str
    host: str = ""
    first: int = 0
    last: int = 0


def _span(text: str, what: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise InvalidParameter(f"invalid {what}: {text}")
    low, high = int(first), int(last or first)
    if not 0 <= low <= high <= 65535:
        raise InvalidParameter(f"invalid {what}: {text}")
    return low, high


def _container_port(text: str) -> tuple[int, str]:
    number, _, protocol = text.partition("/")
    low, high = _span(number, "port specification")
    if low != high or not low or (protocol or "tcp") not in ("tcp", "udp", "sctp"):
        raise InvalidParameter(f"invalid port specification: {text}")
    return low, protocol or "tcp"


def port_requests(host: HostConfig, config: ContainerConfig) -> list[PortRequest]:
    """Every binding of -p and, with -P, every exposed port. Raises InvalidParameter."""
    found = []
    bindings = host.port_bindings or {}
    for text, rows in bindings.items():
        port, protocol = _container_port(text)
        for row in rows or ():
            if row.host_ip:
                try:
                    ipaddress.ip_address(row.host_ip)
                except ValueError:
                    raise InvalidParameter(f"invalid IP address: {row.host_ip}") from None
            first, last = _span(row.host_port, "port specification") if row.host_port else (0, 0)
            found.append(PortRequest(port, protocol, row.host_ip, first, last))
        if rows is not None and not rows:
            found.append(PortRequest(port, protocol))
    if host.publish_all_ports:
        bound = {(request.port, request.protocol) for request in found}
        for text in sorted(config.exposed_ports or ()):
            port, protocol = _container_port(text)
            if (port, protocol) not in bound:
                found.append(PortRequest(port, protocol))
    return sorted(found, key=lambda item: (item.first == 0, item.port, item.protocol, item.first))


def recorded_rules(endpoint: Endpoint) -> list[PortRule]:
    """The rules for what an endpoint publishes."""
    from labkit.host.network.rules import PortRule

    live = endpoint.live
    if live is None:
        return []
    found = []
    for row in endpoint.ports:
        host = ipaddress.ip_address(row["host"])
        address = live.v4 if host.version == 4 else live.v6
        if address is not None and row["protocol"] != "sctp":
            chosen = None if host.is_unspecified else host
            found.append(PortRule(row["protocol"], chosen, row["host_port"], address, row["port"]))
    return found


def ports_json(config: ContainerConfig, host: HostConfig, endpoints: Iterable[Endpoint]) -> Json:
    """NetworkSettings.Ports of a running container."""
    found: Json = {}
    for text in config.exposed_ports or ():
        found[text if "/" in text else f"{text}/tcp"] = None
    for text in host.port_bindings or ():
        found.setdefault(text if "/" in text else f"{text}/tcp", None)
    for endpoint in endpoints:
        for row in endpoint.ports:
            key = f"{row['port']}/{row['protocol']}"
            if found.get(key) is None:
                found[key] = []
            found[key].append({"HostIp": row["host"], "HostPort": str(row["host_port"])})
    return found


class Publisher:
    """Gives out the host's ports and listens on the machine for those of one lab host."""

    def __init__(self, context: Context, plumbing: Plumbing) -> None:
        self._context = context
        self._plumbing = plumbing
        self._taken: dict[tuple[str, int], dict[str, str]] = {}
        """(protocol, port) to {address: container id}."""
        self._proxies: dict[str, list[Proxy]] = {}
        self._next = EPHEMERAL.start

    async def close(self) -> None:
        """Stop listening."""
        for identifier in tuple(self._proxies):
            await self._stop(identifier)

    # -- giving out ----------------------------------------------------

    def _holder(self, protocol: str, port: int, host: str) -> str | None:
        """Who has that port on an address that would clash with `host`."""
        for address, holder in self._taken.get((protocol, port), {}).items():
            mine, theirs = ipaddress.ip_address(host), ipaddress.ip_address(address)
            if mine.version == theirs.version and (
                mine == theirs or mine.is_unspecified or theirs.is_unspecified
            ):
                return holder
        return None

    def _candidates(self, request: PortRequest) -> Iterator[int]:
        if request.first:
            yield from range(request.first, request.last + 1)
            return
        start = self._next
        for offset in range(len(EPHEMERAL)):
            port = EPHEMERAL.start + (start - EPHEMERAL.start + offset) % len(EPHEMERAL)
            self._next = port + 1 if port + 1 in EPHEMERAL else EPHEMERAL.start
            yield port

    async def publish(
        self, container: Container, endpoint: Endpoint, network: Network
    ) -> tuple[Json, ...]:
        """Give the container the ports it asks for, and listen. All or nothing.

        Raises SystemFailure with Docker's sentence when one is taken.
        """
        requests = port_requests(container.host, container.config)
        rows: list[Json] = []
        try:
            for request in requests:
                rows += await self._publish_one(container, endpoint, network, request)
        except BaseException as error:
            await self.release(container.id)
            if isinstance(error, LabkitError):
                assert endpoint.live is not None
                raise SystemFailure(
                    "driver failed programming external connectivity on endpoint "
                    f"{container.name} ({endpoint.live.endpoint_id}): {error.message}",
                    hint=error.hint,
                ) from error
            raise
        return tuple(rows)

    async def _publish_one(
        self, container: Container, endpoint: Endpoint, network: Network, request: PortRequest
    ) -> list[Json]:
        default = network.options.get("com.docker.network.bridge.host_binding_ipv4", "")
        hosts = [request.host] if request.host else [default or "0.0.0.0"]  # noqa: S104
        if hosts == ["0.0.0.0"] and not request.host:  # noqa: S104
            hosts.append("::")
        is_choice = request.first != request.last or not request.first
        last_error: SystemFailure | None = None
        for port in self._candidates(request):
            busy = next(
                (h for h in hosts if self._holder(request.protocol, port, h) is not None), None
            )
            if busy is not None:
                holder = self._holder(request.protocol, port, busy) or ""
                last_error = self._taken_by(busy, port, holder)
            else:
                rows = [
                    {"port": request.port, "protocol": request.protocol, "host": host,
                     "host_port": port}
                    for host in hosts
                ]  # fmt: skip
                try:
                    await self._listen(container.id, endpoint, rows)
                except SystemFailure as error:
                    last_error = error
                else:
                    for row in rows:
                        self._hold(container.id, row)
                    return rows
            if not is_choice:
                break
        raise last_error or SystemFailure("all ports are allocated")

    def _hold(self, identifier: str, row: Json) -> None:
        held = self._taken.setdefault((row["protocol"], row["host_port"]), {})
        held[row["host"]] = identifier

    def _taken_by(self, host: str, port: int, holder: str) -> SystemFailure:
        shown = f"[{host}]" if ":" in host else host
        found = self._context.containers.get(holder)
        name = found.name if found is not None else holder[:12]
        return SystemFailure(
            f"Bind for {shown}:{port} failed: port is already allocated",
            hint=f"container {name} has it: `docker stop {name}`, or publish another port",
        )

    async def release(self, identifier: str) -> None:
        """Take back everything a container published."""
        for key in tuple(self._taken):
            held = self._taken[key]
            for host in [host for host, holder in held.items() if holder == identifier]:
                del held[host]
            if not held:
                del self._taken[key]
        await self._stop(identifier)

    async def _stop(self, identifier: str) -> None:
        for proxy in self._proxies.pop(identifier, ()):
            await proxy.close()

    async def resume(self, identifier: str, endpoint: Endpoint) -> list[str]:
        """Listen again for what was published when the daemon ended; problems in words."""
        problems = []
        for row in endpoint.ports:
            self._hold(identifier, row)
            try:
                await self._listen(identifier, endpoint, [row])
            except SystemFailure as error:
                problems.append(error.message)
        return problems

    # -- listening on the machine ----------------------------------------------------

    def _machine_addresses(self, host: str) -> list[str]:
        """Where the machine listens for a port published on `host` of the lab host."""
        allowed = self._context.ports.publish_on
        wanted = ipaddress.ip_address(host)
        return [
            text
            for text in allowed
            if (found := ipaddress.ip_address(text)).version == wanted.version
            and (wanted.is_unspecified or found.is_unspecified or wanted == found)
        ]

    async def _listen(self, identifier: str, endpoint: Endpoint, rows: list[Json]) -> None:
        from labkit.host.network.proxy import open_proxy, port_holder

        live = endpoint.live
        assert live is not None
        opened: list[Proxy] = []
        try:
            for row in rows:
                address = live.v6 if ":" in row["host"] and live.v6 else live.v4 or live.v6
                assert address is not None
                for text in self._machine_addresses(row["host"]):
                    target = (str(address), row["port"])
                    try:
                        opened.append(
                            await open_proxy(
                                row["protocol"], (text, row["host_port"]), target, self._plumbing
                            )
                        )
                    except OSError as error:
                        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                            continue  # this machine has no IPv6
                        raise self._refused(row, target, error, port_holder(
                            row["protocol"], row["host_port"]
                        )) from error  # fmt: skip
        except BaseException:
            for proxy in opened:
                await proxy.close()
            raise
        self._proxies.setdefault(identifier, []).extend(opened)

    @staticmethod
    def _refused(row: Json, target: tuple[str, int], error: OSError, holder: str) -> SystemFailure:
        shown = f"[{row['host']}]" if ":" in row["host"] else row["host"]
        if error.errno == errno.EACCES:
            return SystemFailure(
                f"cannot expose privileged port {row['host_port']}: an ordinary user's lab may "
                "listen from 1024 upwards",
                hint="publish a higher port, for example -p 8080:80",
            )
        reason = (error.strerror or str(error)).lower()
        return SystemFailure(
            f"failed to bind host port for {shown}:{row['host_port']}:{target[0]}:{target[1]}/"
            f"{row['protocol']}: {reason}",
            hint=f"on this machine {holder} has that port: publish another one"
            if holder
            else "another program on this machine has that port: publish another one",
        )
