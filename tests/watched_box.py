"""A box in a network of its own, in which every packet that would leave the machine is written down, whoever sends it.

    unshare -n -m python tests/watched_box.py FOLDER

The namespace has nothing but loopback, and a route that leads everything else there, too: what any process or library
sends goes nowhere, and is seen by a packet socket, native code and name servers included. Prints JSON: the packets
while the box started, ran jobs and stopped, and those that were sent on purpose afterwards.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from support import SAMPLES, serve

NAME_SERVER, MARK = "192.0.2.53", "192.0.2.99"
ALL_PROTOCOLS = 0x0003
UDP, TCP, ICMP6 = 17, 6, 58


class Watch:
    """The packets that were sent to other than loopback, as "protocol address port"."""

    def __init__(self) -> None:
        self._seen: list[str] = []
        self._more = threading.Event()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL_PROTOCOLS))
        self._socket.bind(("lo", 0))
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            packet, (_, _, kind, *_) = self._socket.recvfrom(2048)
            if kind == socket.PACKET_OUTGOING and (told := describe(packet)):
                self._seen.append(told)
                self._more.set()

    def so_far(self) -> list[str]:
        """All since it was last asked. Packets come in order: once one of our own is seen, those before it were."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mark:
            mark.sendto(b"", (MARK, 9))
        while f"udp {MARK} 9" not in self._seen:
            self._more.wait()
            self._more.clear()
        place = self._seen.index(f"udp {MARK} 9")
        found, self._seen = self._seen[:place], self._seen[place + 1 :]
        return found


def describe(packet: bytes) -> str | None:
    """None for what stays here, and for the kernel's own neighbour discovery."""
    to: IPv4Address | IPv6Address
    if packet[0] >> 4 == 4:
        header, protocol, to = 4 * (packet[0] & 15), packet[9], IPv4Address(packet[16:20])
    else:
        header, protocol, to = 40, packet[6], IPv6Address(packet[24:40])
    if to.is_loopback or protocol == ICMP6 or to.is_multicast:
        return None
    port = int.from_bytes(packet[header + 2 : header + 4], "big") if protocol in (UDP, TCP) else 0
    return f"{ {UDP: 'udp', TCP: 'tcp'}.get(protocol, protocol) } {to} {port}"


def isolate(folder: Path) -> None:
    """Everything leads to loopback, and names are asked of a server that is elsewhere."""
    names = folder / "resolv.conf"
    names.write_text(f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n")
    for command in (
        "ip link set lo up",
        "ip route add default dev lo",
        "ip -6 route add default dev lo",
        f"mount --bind {names} /etc/resolv.conf",
    ):
        subprocess.run(command.split(), check=not command.startswith("ip -6"), capture_output=True)


def work(folder: Path) -> dict[str, str]:
    """What a box does for people: a page, a transcription that detects its language, and the sound of a recording."""
    served = serve(folder, STENOBOX_SLOTS="1")
    try:
        assert served.get("/").status_code == 200
        job = served.finish(served.submit(SAMPLES / "en-u002.flac"))
        with (SAMPLES / "en-u002.flac").open("rb") as file:
            sound = served.post("/api/v1/audio-extractions", data={"format": "mp3"}, files={"file": file}).json()
        sound = served.finish(sound)
        return {"transcription": job["state"], "extraction": sound["state"]}
    finally:
        assert served.stop() == 0, served.log.read_text()


def on_purpose() -> None:
    """The watch sees what it is for: a connection, and a name that another program looks up."""
    with socket.socket() as one:
        one.settimeout(0.2)
        one.connect_ex(("198.51.100.7", 443))
    subprocess.run(["getent", "ahosts", "telemetry.example.org"], capture_output=True)


def main(folder: Path) -> None:
    isolate(folder)
    watch = Watch()
    states = work(folder)
    during = watch.so_far()
    on_purpose()
    print(json.dumps({"states": states, "during": during, "on purpose": watch.so_far()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
