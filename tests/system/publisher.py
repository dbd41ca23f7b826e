"""An MQTT client that publishes numbered messages, knows which were acknowledged, and comes back when it is cut off."""

from __future__ import annotations

from typing import Any

import paho.mqtt.client as paho

IN_FLIGHT = 100


class Publisher:
    """paho on a thread of its own. Message n of `client` is `<client> <n>`, on `factory/<client>/…`.

    resumes: after a cut it connects again with its session, and sends again what was not acknowledged, as MQTT says.
    """

    def __init__(self, port: int, name: str, *, qos: int, resumes: bool) -> None:
        self.name = name
        self.acknowledged: list[int] = []
        """In the order in which the acknowledgements came."""
        self._qos = qos
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=name,
            clean_session=not resumes,
            protocol=paho.MQTTv311,
            reconnect_on_failure=resumes,
        )
        self._client.max_inflight_messages_set(IN_FLIGHT)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_publish = self._on_publish
        self._client.connect_async("127.0.0.1", port, keepalive=30)

    def start(self) -> None:
        self._client.loop_start()

    def publish(self, count: int) -> None:
        """Queue that many messages; returns at once."""
        for number in range(count):
            info = self._client.publish(f"factory/{self.name}/kill", f"{self.name} {number}", qos=self._qos)
            assert info.mid == number + 1  # paho counts, and so `_on_publish` needs no table and no lock

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_publish(self, _client: paho.Client, _userdata: object, mid: int, *_: Any) -> None:
        self.acknowledged.append(mid - 1)
