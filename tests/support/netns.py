"""Network namespaces for tests: hosts of the tests' own, so that no packet leaves this machine and none of its rules
is touched.

    with Namespace() as host: host.run(function)      the function runs in a thread that is in that namespace
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def enter(path: Path) -> None:
    """Move the calling thread to the network namespace at `path`, for good."""
    with path.open("rb") as file:
        if _libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {path}")


def run_in(path: Path, function: Callable[[], T]) -> T:
    """Call `function` in a thread of its own in the namespace at `path`; its result or exception."""
    with ThreadPoolExecutor(1, initializer=enter, initargs=(path,)) as pool:
        return pool.submit(function).result()


class Namespace:
    """A namespace with loopback up, held by a process."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "--net", "--", "sleep", "infinity"])
        self.path = Path(f"/proc/{self._holder.pid}/ns/net")
        own = Path("/proc/self/ns/net").stat().st_ino
        while self.path.stat().st_ino == own:
            assert self._holder.poll() is None
            os.sched_yield()
        self.inode = self.path.stat().st_ino
        self.ip("link", "set", "lo", "up")
        switch = Path("/proc/sys/net/ipv4/ip_forward")
        self.run(lambda: switch.write_text("0", encoding="ascii"))  # else it is as on the machine

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.wait()

    @property
    def pid(self) -> int:
        return self._holder.pid

    def run(self, function: Callable[[], T]) -> T:
        return run_in(self.path, function)

    def command(self, *command: str) -> str:
        """Run a program in it; returns its output."""
        done = self.run(lambda: subprocess.run(command, capture_output=True, text=True, check=False))
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def ip(self, *arguments: str) -> str:
        return self.command("ip", *arguments)

    def state(self) -> dict[str, str]:
        """All that a program could change in it: rules, links, addresses, routes, forwarding."""
        rules = [line for line in self.command("iptables-save").splitlines() if not line.startswith("#")]
        # Whether a table that is empty is there at all is nobody's business.
        rules = [line for line in rules if line not in ("COMMIT", "*mangle", "*nat", "*filter", "*raw")]
        rules = [line.partition(" [")[0] for line in rules if not (line.startswith(":") and " ACCEPT " in line)]
        forwarding = Path("/proc/sys/net/ipv4/ip_forward")
        return {
            "rules": "\n".join(rules),
            "links": "\n".join(line.split()[0] for line in self.ip("-brief", "link").splitlines()),
            "addresses": self.ip("-brief", "-4", "address"),
            "routes": self.ip("route"),
            "forwarding": self.run(lambda: forwarding.read_text(encoding="ascii")).strip(),
        }


class Servers:
    """TCP servers that say whom they see, and UDP ones that echo, on every address of a namespace."""

    def __init__(self, path: Path, ports: tuple[int, ...]) -> None:
        self._sockets = run_in(path, lambda: [bound(kind, port) for port in ports for kind in KINDS])
        for listener in self._sockets:
            threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                if listener.type == socket.SOCK_DGRAM:
                    data, control, _, peer = listener.recvmsg(4096, 64)
                    if peer is None:  # it was shut down
                        return
                    # Answer from the address that was asked, which the route back would not choose.
                    asked = struct.pack("=I4s4s", 0, control[0][2][8:12], bytes(4))
                    listener.sendmsg([answer(data)], [(socket.IPPROTO_IP, IP_PKTINFO, asked)], 0, peer)
                else:
                    connection, peer = listener.accept()
                    with connection:
                        connection.sendall(str(peer[0]).encode())

    def close(self) -> None:
        for listener in self._sockets:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()


IP_PKTINFO = 8  # ip(7)
KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM)


def bound(kind: socket.SocketKind, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("", port))
    if kind == socket.SOCK_STREAM:
        listener.listen()
    else:
        listener.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    return listener


def answer(data: bytes) -> bytes:
    """A DNS answer, 192.0.2.77, to a question for one name; anything else comes back as it is."""
    if len(data) < 17 or data[2:4] != b"\x01\x00":
        return data
    end = data.index(b"\0", 12) + 5
    record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + socket.inet_aton("192.0.2.77")
    return data[:2] + b"\x81\x80\0\x01\0\x01\0\0\0\0" + data[12:end] + record


def tcp(address: str, port: int, seconds: float = 5) -> str | None:
    """What a server says, from the calling thread's namespace; None when it cannot be reached."""
    try:
        with socket.create_connection((address, port), seconds) as connection:
            return connection.recv(100).decode()
    except OSError:
        return None


def udp(address: str, port: int, data: bytes = b"hello", seconds: float = 5) -> bytes | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(seconds)
        try:
            client.sendto(data, (address, port))
            return client.recv(4096)
        except OSError:
            return None


def reached(targets: Iterable[tuple[str, int]], seconds: float = 0.5) -> set[str]:
    """Which of `targets` answer over TCP or UDP, all tried at once from the calling thread's namespace."""
    found: set[str] = set()
    names: dict[int, str] = {}
    with contextlib.ExitStack() as stack:
        poll = select.poll()
        for address, port in targets:
            for kind in KINDS:
                client = stack.enter_context(socket.socket(socket.AF_INET, kind))
                client.setblocking(False)
                names[client.fileno()] = f"{address}:{port} {kind.name}"
                with contextlib.suppress(OSError):  # BlockingIOError, and what is unreachable at once
                    client.connect((address, port))
                    client.send(b"hello")
                poll.register(client, select.POLLIN)
        deadline = time.monotonic() + seconds
        while len(found) < len(names) and (left := deadline - time.monotonic()) > 0:
            for number, events in poll.poll(left * 1000):
                poll.unregister(number)
                if events & select.POLLIN and not events & select.POLLERR:
                    found.add(names[number])
    return found


@contextlib.contextmanager
def host_and_world(addresses: tuple[str, ...]) -> Iterator[tuple[Namespace, Namespace]]:
    """A host whose default route leads to a world that has all of `addresses`."""
    with Namespace() as host, Namespace() as world:
        host.ip("link", "add", "up0", "type", "veth", "peer", "name", "down0", "netns", str(world.pid))
        host.ip("address", "add", "198.51.100.2/24", "dev", "up0")
        host.ip("link", "set", "up0", "up")
        world.ip("address", "add", "198.51.100.1/24", "dev", "down0")
        world.ip("link", "set", "down0", "up")
        host.ip("route", "add", "default", "via", "198.51.100.1")
        world.ip("route", "add", "default", "via", "198.51.100.2")
        for address in addresses:
            world.ip("address", "add", f"{address}/32", "dev", "lo")
        yield host, world
