"""What a durable message costs: CPU from a QoS 1 PUBLISH through the disk and the PUBACK to Kafka's confirmation.

python bench/durable.py [messages]

Full load: a few clients keep a window of messages open and send the next as soon as one is acknowledged. They are bare
sockets, so that they are never what is waited for. The journal lies in the directory for temporary files (TMPDIR):
where that is memory, PUBACKs come faster than from a disk; the CPU is the same.
"""

import selectors
import socket
import sys
import tempfile
import time
from pathlib import Path

from place import gateway, kafka
from yardstick import yardstick

CLIENTS = 4
WINDOW = 250
PAYLOAD = b"x" * 300
PUBACK_BYTES = 4
ROUTE = "factory"


class Client:
    """One connection with its window of unacknowledged messages."""

    def __init__(self, port: int, number: int, messages: int) -> None:
        self.left, self.waiting, self._packet_id = messages, 0, 0
        self._topic = b"factory/hall-%d/energy" % number
        self.socket = socket.create_connection(("127.0.0.1", port))
        name = b"bench-%d" % number
        body = b"\0\x04MQTT\x04\x02\0\0" + len(name).to_bytes(2, "big") + name
        self.socket.sendall(bytes([0x10, len(body)]) + body)
        if self.socket.recv(4) != b"\x20\x02\0\0":
            raise RuntimeError("the gateway does not let us in")

    def fill(self) -> None:
        """Send until the window is full."""
        batch = bytearray()
        while self.left and self.waiting < WINDOW:
            self._packet_id = self._packet_id % 65_535 + 1
            body = len(self._topic).to_bytes(2, "big") + self._topic + self._packet_id.to_bytes(2, "big") + PAYLOAD
            batch += bytes([0x32, len(body) & 127 | 128, len(body) >> 7]) + body
            self.left -= 1
            self.waiting += 1
        self.socket.sendall(batch)

    def acknowledged(self) -> None:
        """Takes what came; half an acknowledgement is left for the next time."""
        came = len(self.socket.recv(65_536, socket.MSG_PEEK)) // PUBACK_BYTES
        if not came:
            raise RuntimeError("the gateway closed the connection")
        self.socket.recv(came * PUBACK_BYTES)
        self.waiting -= came


def _publish(port: int, messages: int) -> None:
    """Returns when everything was acknowledged."""
    clients = [Client(port, number, messages // CLIENTS) for number in range(CLIENTS)]
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.fill()
        while any(client.waiting for client in clients):
            for key, _ in selector.select(10):
                key.data.acknowledged()
                key.data.fill()
    for client in clients:
        client.socket.close()


def measure(messages: int = 40_000) -> str:
    """One line."""
    messages -= messages % CLIENTS
    with (
        yardstick() as stick,
        tempfile.TemporaryDirectory() as folder,
        kafka() as address,
        gateway(Path(folder), address, [], "") as run,
    ):
        _publish(run.mqtt_port, messages // 10)  # what is done once is done
        _settle(run, messages // 10)
        cpu_s, began_s = -run.cpu_s(), time.monotonic()
        _publish(run.mqtt_port, messages)
        acknowledged_s = time.monotonic() - began_s
        _settle(run, messages + messages // 10)
        cpu_s += run.cpu_s()
    cost_us = cpu_s / messages * 1e6
    return (
        f"CPU per durable QoS 1 message to Kafka: {cost_us / stick.unit_us:.1f} units "
        f"({cost_us:.0f} µs here, {messages} messages, {messages / acknowledged_s:,.0f} PUBACK/s)"
    )


def _settle(run, messages: int) -> None:
    """Until Kafka confirmed all of them."""
    deadline_s = time.monotonic() + 120
    while run.counted("evedge_messages_confirmed_total", ROUTE) < messages:
        if time.monotonic() > deadline_s:
            raise RuntimeError("Kafka did not confirm everything")
        time.sleep(0.2)


if __name__ == "__main__":
    print(measure(*(int(argument) for argument in sys.argv[1:2])))
