"""Hosts: network namespaces on a switch of their own. Whoever runs this is in namespaces of its own already (see `run`)."""

import subprocess
from pathlib import Path

from switch import Port, Switch


def do(*arguments: str, text: str | None = None):
    done = subprocess.run(arguments, capture_output=True, text=True, input=text, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()}")


class Host:
    """A namespace with its loopback; cables come later."""

    def __init__(self, lan: "Lan", name: str):
        self.lan, self.name = lan, name
        self.inside = ("ip", "netns", "exec", name)
        self.ports: list[Port] = []
        do("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str):
        do("ip", "-n", self.name, *arguments)

    def plug(self, segment: str, *addresses: str) -> Port:
        """A cable to a segment of the switch, with these addresses on its device."""
        device = f"{self.name}-{len(self.ports)}"
        port = self.lan.switch.plug(device, segment)
        do("ip", "link", "set", device, "netns", self.name)
        for address in addresses:
            # An address is there at once, and not after the kernel has asked whether others have it too.
            self.ip("addr", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
        self.ip("link", "set", device, "up")
        self.ports.append(port)
        return port

    def route(self, through: str):
        self.ip("route", "add", "default", "via", through)

    def masquerade(self):
        """Makes it a router as they stand in homes: it forwards from its first cable to its second one, hides who is
        behind it, and takes nothing that was not asked for."""
        inner, outer = (port.name for port in self.ports)
        do(*self.inside, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        rules = f"""
        table ip home {{
            chain leaving {{ type nat hook postrouting priority 100; oifname "{outer}" masquerade; }}
            chain forwarded {{
                type filter hook forward priority 0; policy drop;
                iifname "{inner}" accept
                ct state established,related accept
            }}
            chain own {{ type filter hook input priority 0; policy accept; iifname "{outer}" drop; }}
        }}
        """
        do(*self.inside, "nft", "-f", "-", text=rules)


class Lan:
    """All hosts of a test."""

    def __init__(self, seed: int):
        self.switch = Switch(seed)
        self.switch.start()
        self.hosts: dict[str, Host] = {}

    def host(self, name: str, *addresses: str, segment: str = "internet") -> Host:
        host = self.hosts[name] = Host(self, name)
        if addresses:
            host.plug(segment, *addresses)
        return host

    def close(self):
        self.switch.close()
        for name in self.hosts:
            do("ip", "netns", "del", name)


def can_run() -> str | None:
    """What is missing; none if nothing is."""
    if not Path("/dev/net/tun").exists():
        return "/dev/net/tun"
    try:
        do("ip", "link", "set", "lo", "up")
        # Their names are kept here, and nobody else is to see them.
        Path("/run/netns").mkdir(exist_ok=True)
        do("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
        do("ip", "netns", "add", "try")
        do("ip", "netns", "del", "try")
    except (RuntimeError, OSError) as error:
        return str(error)
    return None
