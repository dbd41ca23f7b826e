"""The agent's link, against the gateway's own front and against a peer that misbehaves."""

import asyncio
import contextlib
import socket

import pytest

from evedge.core.delivery import SendOutage, TopicUnavailable
from evedge.core.errors import UsageError
from evedge.core.model import Record
from evedge.core.rights import Rights
from evedge.links.mqtt_client import LANE, MAX_IN_FLIGHT, ClientSettings, MqttClient
from evedge.links.mqtt_protocols import User
from evedge.links.passwords import hash_password
from links.mqtt_certificates import make_certificates
from links.raw_mqtt import Broker

STATUS = "evedge/site-042/agent/plc-1/status"
COMMAND = "evedge/site-042/rp/rp-07/command"
DEADLINE_S = 10.0
ALL = Rights(("#",), ("#",))


def record(value=b"{}", topic="evedge/site-042/rp/rp-07/telemetry", *, retain=False, number=1):
    headers = (("mqtt_topic", topic.encode()), ("mqtt_retain", b"true" if retain else b"false"))
    return Record(LANE, b"site-042/rp-07", value, headers, 0, True, number)


class Agent:
    """A link to a port; `heard` and `connections` are what it told."""

    def __init__(self, port, *, send_timeout_s=5.0, **settings):
        self.heard = []
        self.connections = 0
        self.changed = asyncio.Event()
        given = {
            "host": "127.0.0.1",
            "port": port,
            "client_id": "plc-1",
            "status_topic": STATUS,
            "online": b"online",
            "offline": b"offline",
            "subscribe": (COMMAND,),
        }
        self.link = MqttClient(
            ClientSettings(**(given | settings)),
            heard=self._heard,
            connected=self._connected,
            chance=lambda: 0.0,
            send_timeout_s=send_timeout_s,
        )

    def _heard(self, topic, payload):
        self.heard.append((topic, payload))
        self.changed.set()

    def _connected(self):
        self.connections += 1
        self.changed.set()

    async def until(self, condition):
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def up(self, times=1):
        await self.until(lambda: self.connections >= times)
        return self


@contextlib.asynccontextmanager
async def agent(port, **keys):
    one = Agent(port, **keys)
    async with one.link:
        yield one


async def eventually(look):
    async with asyncio.timeout(DEADLINE_S):
        while not (found := look()):
            await asyncio.sleep(0.01)
    return found


def published(broker, topic=None):
    return [one.payload for one in broker.intake.accepted if topic in (None, one.topic)]


async def test_it_is_ready_without_a_broker_and_says_why_it_sends_nothing(unused_port):
    async with agent(unused_port) as plc:
        with pytest.raises(SendOutage, match=f"mqtt://127.0.0.1:{unused_port}"):
            await plc.link.send(LANE, [record()])
        await eventually(lambda: plc.link.last_error)
        assert not plc.link.up


@pytest.fixture
def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_it_is_online_while_it_is_there_and_says_goodbye():
    async with Broker() as broker:
        async with agent(broker.port) as plc:
            await plc.up()
            assert plc.link.up
            assert broker.router.retained_topics() == [(STATUS, b"online", 1)]
        assert broker.router.retained_topics() == [(STATUS, b"offline", 1)]
        assert broker.counters.wills_published == 0
        await plc.link.close()


async def test_records_go_out_in_order_on_their_topics_and_are_confirmed():
    async with Broker() as broker, agent(broker.port) as plc:
        await plc.up()
        records = [record(b"%d" % number, number=number) for number in range(3 * MAX_IN_FLIGHT + 7)]
        retained = record(b"kept", "evedge/site-042/rp/rp-07/status", retain=True)
        result = await plc.link.send(LANE, [*records, retained])
        assert result.confirmed == (*records, retained)
        assert published(broker, "evedge/site-042/rp/rp-07/telemetry") == [one.value for one in records]
        assert {one.qos for one in broker.intake.accepted} == {1}
        assert ("evedge/site-042/rp/rp-07/status", b"kept", 1) in broker.router.retained_topics()


async def test_commands_are_heard_on_every_connection():
    async with Broker() as broker, agent(broker.port) as plc:
        await plc.up()
        broker.router.publish(COMMAND, b"one", 1, False)
        await plc.until(lambda: plc.heard == [(COMMAND, b"one")])
        for connection in list(broker.front._sockets):
            connection.abort()
        await plc.up(times=2)
        broker.router.publish(COMMAND, b"two", 1, False)
        await plc.until(lambda: plc.heard[1:] == [(COMMAND, b"two")])
        assert broker.counters.wills_published == 1
        assert published(broker, STATUS) == [b"online", b"offline", b"online"]


async def test_what_was_not_acknowledged_is_open_when_the_connection_is_lost():
    async with Broker() as broker, agent(broker.port) as plc:
        await plc.up()
        broker.intake.by_hand = True
        sending = asyncio.create_task(plc.link.send(LANE, [record(b"1"), record(b"2")]))
        await broker.intake.until(lambda: {b"1", b"2"} <= set(published(broker)))
        broker.intake.by_hand = False
        for connection in list(broker.front._sockets):
            connection.abort()
        with pytest.raises(SendOutage) as lost:
            await sending
        assert lost.value.settled.confirmed == ()
        await plc.up(times=2)
        assert len((await plc.link.send(LANE, [record(b"1"), record(b"2")])).confirmed) == 2


async def test_a_broker_that_does_not_acknowledge_in_time_loses_the_connection():
    async with Broker() as broker, agent(broker.port, send_timeout_s=0.2) as plc:
        await plc.up()
        broker.intake.by_hand = True
        with pytest.raises(SendOutage, match=r"no acknowledgement within 0\.2 s"):
            await plc.link.send(LANE, [record()])
        broker.intake.by_hand = False
        await plc.up(times=2)


async def test_a_send_that_is_cancelled_leaves_the_link_usable():
    async with Broker() as broker, agent(broker.port) as plc:
        await plc.up()
        broker.intake.by_hand = True
        sending = asyncio.create_task(plc.link.send(LANE, [record(b"1")]))
        await broker.intake.until(lambda: b"1" in published(broker))
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        broker.intake.by_hand = False
        assert plc.link.up


async def test_it_logs_in_and_says_when_it_may_not():
    user = User("plc-1", hash_password("right"), rights=Rights(("#",), ("#",)))
    async with Broker(allow_anonymous=False, users=(user,)) as broker:
        async with agent(broker.port, username="plc-1", password="right") as plc:
            await plc.up()
        async with agent(broker.port, username="plc-1", password="wrong") as plc:
            error = await eventually(lambda: plc.link.last_error)
            assert "wrong" not in f"{error} {plc.link!r}"
            assert not plc.link.up


async def test_a_user_without_the_right_to_its_status_is_told_so():
    user = User("plc-1", hash_password("right"), rights=Rights(("evedge/site-042/rp/#",), ("#",)))
    login = {"username": "plc-1", "password": "right"}
    async with Broker(allow_anonymous=False, users=(user,)) as broker, agent(broker.port, **login) as plc:
        await eventually(lambda: STATUS in (plc.link.last_error or ""))
        assert not plc.link.up
        assert plc.connections == 0


async def test_a_send_waits_a_moment_for_the_connection():
    async with Broker() as broker, agent(broker.port) as plc:
        assert not plc.link.up
        assert len((await plc.link.send(LANE, [record()])).confirmed) == 1


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("tls"))


def tls(certificates, **more):
    listening = {
        "tls_bind": "127.0.0.1:0",
        "tls_cert_file": certificates / "localhost.pem",
        "tls_key_file": certificates / "localhost.key",
    }
    return listening | more


async def test_it_shows_its_certificate_and_is_known_by_it(certificates):
    user = User("plc-1", tls_common_name="device-7", rights=ALL)
    settings = tls(certificates, tls_client_ca_file=certificates / "ca.pem", users=(user,), allow_anonymous=False)
    mine = {
        "host": "localhost",
        "tls": True,
        "tls_ca_file": certificates / "ca.pem",
        "tls_cert_file": certificates / "device-7.pem",
        "tls_key_file": certificates / "device-7.key",
    }
    async with Broker(**settings) as broker, agent(broker.front.tls_port, **mine) as plc:
        await plc.up()
        assert broker.intake.calls[0][0].name == "plc-1"


# paho leaves a socket whose handshake failed to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
async def test_it_does_not_speak_to_a_broker_that_nobody_vouches_for(certificates):
    async with Broker(**tls(certificates)) as broker:
        async with agent(broker.front.tls_port, host="localhost", tls=True) as plc:
            await eventually(lambda: "certificate" in (plc.link.last_error or ""))
        assert broker.intake.accepted == []


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"^\[mqtt\] tls_ca_file: .*none.pem: No such file"):
        Agent(1883, tls=True, tls_ca_file=tmp_path / "none.pem")


async def test_lanes_of_an_earlier_role_stay():
    async with Broker() as broker, agent(broker.port) as plc:
        await plc.up()
        with pytest.raises(TopicUnavailable, match=r"evedge\.telemetry"):
            await plc.link.send("evedge.telemetry", [record()])
