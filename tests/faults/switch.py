"""A switch in user space: hosts hang on it by a TAP device each, and it delays, loses, limits and cuts as it is told.

The kernel's own means (`tc netem`) are a module that many kernels lack; TAP devices and namespaces are everywhere. Frames are
real ones of real TCP: retransmissions, time-outs and congestion control are those of the kernel.
"""

import fcntl
import heapq
import itertools
import os
import random
import selectors
import struct
import threading
import time
from dataclasses import dataclass, field

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
LONGEST_FRAME = 1 << 16
# Bytes that wait for a slow link; further ones are lost, as in a router.
QUEUE = 128 << 10


@dataclass
class Way:
    """One direction of a cable."""

    up: bool = True
    loss: float = 0.0
    delay: float = 0.0
    # Bytes per second; none: no limit.
    rate: float | None = None
    free_at: float = 0.0


@dataclass
class Port:
    name: str
    fd: int
    # Ports see those of their segment only.
    segment: str
    to_host: Way = field(default_factory=Way)
    from_host: Way = field(default_factory=Way)

    def ways(self) -> tuple[Way, Way]:
        return self.to_host, self.from_host


class Switch(threading.Thread):
    """Forwards frames until it is closed. Ways may be changed at any time."""

    def __init__(self, seed: int):
        super().__init__(daemon=True)
        self.ports: dict[int, Port] = {}
        self.random = random.Random(seed)
        self.selector = selectors.DefaultSelector()
        self.waiting: list[tuple[float, int, Port, bytes]] = []
        self.numbers = itertools.count()
        self.learnt: dict[tuple[str, bytes], Port] = {}
        # What was carried to hosts, in bytes.
        self.carried = 0
        self.closing = False

    def plug(self, device: str, segment: str) -> Port:
        """A new TAP device and its port; the caller moves the device to where it belongs."""
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH14x", device.encode(), IFF_TAP | IFF_NO_PI))
        port = self.ports[fd] = Port(device, fd, segment)
        self.selector.register(fd, selectors.EVENT_READ, port)
        return port

    def mend(self):
        """Every cable is as good as new, and in one segment with those it was plugged in with."""
        for port in self.ports.values():
            port.to_host, port.from_host = Way(), Way()

    def run(self):
        while not self.closing:
            now = time.monotonic()
            while self.waiting and self.waiting[0][0] <= now:
                _, _, port, frame = heapq.heappop(self.waiting)
                self.deliver(port, frame)
            pause = min(0.05, self.waiting[0][0] - now) if self.waiting else 0.05
            for key, _ in self.selector.select(max(0.0, pause)):
                self.take(key.data)

    def close(self):
        self.closing = True
        self.join()
        for fd in self.ports:
            os.close(fd)

    def take(self, port: Port):
        """All frames that a host has sent."""
        while True:
            try:
                frame = os.read(port.fd, LONGEST_FRAME)
            except (BlockingIOError, OSError):
                # Nothing more, or the device is not up yet.
                return
            target, source = frame[:6], frame[6:12]
            self.learnt[port.segment, source] = port
            at = self.pass_way(port.from_host, len(frame), time.monotonic())
            if at is None:
                continue
            known = self.learnt.get((port.segment, target)) if not target[0] & 1 else None
            others = [known] if known else [p for p in self.ports.values() if p.segment == port.segment]
            for other in others:
                if other is not port and other.segment == port.segment:
                    arrives = self.pass_way(other.to_host, len(frame), at)
                    if arrives is not None:
                        heapq.heappush(self.waiting, (arrives, next(self.numbers), other, frame))

    def pass_way(self, way: Way, length: int, now: float) -> float | None:
        """When a frame that comes now leaves the way; none if it is lost on it."""
        if not way.up or self.random.random() < way.loss:
            return None
        if way.rate is not None:
            begins = max(now, way.free_at)
            if (begins - now) * way.rate > QUEUE:
                return None
            way.free_at = begins + length / way.rate
            now = way.free_at
        return now + way.delay

    def deliver(self, port: Port, frame: bytes):
        try:
            self.carried += os.write(port.fd, frame)
        except (BlockingIOError, OSError):
            # The host does not take it: a frame lost.
            pass
