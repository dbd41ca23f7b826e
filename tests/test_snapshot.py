"""What the gateway shows, gathered from real parts."""

import asyncio

import msgspec
import pytest

from evedge import build
from evedge.config import parse
from evedge.config_profiles import resolve_profiles
from evedge.core.commands import Action, Command, Purpose
from evedge.core.counters import MqttCounters
from evedge.core.machine import MachineReading
from evedge.core.model import Link, Quality, Record
from evedge.core.plan import Reading
from evedge.core.reading import Identity, LinkState
from evedge.flows.housekeeping import Housekeeping
from evedge.flows.lives import Lives
from evedge.flows.poll_stats import Outcome
from evedge.flows.reconciler import Reconciler
from evedge.flows.reporter import Reporter
from evedge.links.journal import Journal
from evedge.links.kafka_producer import KafkaProducer
from evedge.links.kafka_settings import KafkaSettings
from evedge.links.mqtt_client import MqttClient
from evedge.links.state import State
from evedge.snapshot import STALLED_S, Snapshot
from evedge.web.metrics import render
from turned_time import TurnedTime

SECRET = "correct horse battery staple"
CONFIG = {
    "gateway": {"id": "site-042"},
    "mqtt": {"users": [{"name": "plc-1", "password_hash": "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"}]},
    "kafka": {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "gateway",
        "sasl_password": SECRET,
    },
    "recharge_points": [
        {"id": "rp-01", "host": "192.0.2.10", "profile": "abb-terra-ac"},
        {"id": "rp-07", "agent": "plc-1"},
    ],
}


class Nowhere:
    """Takes what is published; a Machine and a Device too."""

    def publish(self, *_, **__):
        return None

    async def read(self):
        return MachineReading()

    async def run(self, job, *, deadline_s):
        raise NotImplementedError


class Site:
    """The parts of a gateway that does not run."""

    def __init__(self, journal, state):
        self.time = time = TurnedTime()
        config = parse(CONFIG)
        profiles = resolve_profiles(config)
        nowhere = Nowhere()
        self.reporter = Reporter(
            nowhere, state, own=config.own_topics, recharge_points=["rp-01", "rp-07"], clock=time, version="1"
        )
        self.lives = Lives(state, self.reporter, gateway="site-042", clock=time)
        self.pollers = build.pollers(config, profiles, self.reporter, time)
        self.device = self.pollers[0].devices["rp-01"]
        self.journal = journal
        self.mqtt_address = "127.0.0.1:1883"
        limit = profiles["rp-01"].limit
        self.reconciler = Reconciler(
            "rp-01",
            limit=limit,
            failsafe=None,
            bounds=build.bounds(config.recharge_points[0], limit),
            device=nowhere,
            lives=self.lives,
            alerts=self.reporter,
            clock=time,
            forget_after_s=60,
            limit_now_a=lambda: 16.0,
        )
        self.producer = KafkaProducer(KafkaSettings(bootstrap_servers=("192.0.2.1:9092",), client_id="c"))
        self.housekeeping = Housekeeping(
            gateway="site-042",
            journal=journal,
            disks={},
            producer=self.producer,
            machine=nowhere,
            reports=self.reporter,
            clock=time,
            sleep=time.sleep,
        )
        self.snapshot = Snapshot(
            config=config,
            profiles=profiles,
            clock=time,
            reporter=self.reporter,
            journal=journal,
            state=state,
            lives=self.lives,
            housekeeping=self.housekeeping,
            pollers=self.pollers,
            reconcilers={"rp-01": self.reconciler},
            mqtt=MqttCounters(clients=2),
            mqtt_address=lambda: self.mqtt_address,
            producer=self.producer,
        )

    def status(self):
        return self.snapshot.status()

    def point(self, name="rp-01"):
        return {point.id: point for point in self.status().recharge_points}[name]


@pytest.fixture
async def site(tmp_path):
    async with (
        State(tmp_path / "state.db") as state,
        Journal(tmp_path / "journal.db", max_bytes=1_048_576) as journal,
    ):
        await state.reserve(["rp-01"])
        site = Site(journal, state)
        async with site.producer:
            yield site


def read(site, **values):
    site.reporter.telemetry(
        "rp-01",
        measured_at_ms=site.time.wall_ms(),
        reading=Reading(values, {} if values else {"state": "no answer"}, [], {}),
    )


# Recharge points.


async def test_what_was_never_read_is_not_known(site):
    point = site.point()
    assert (point.state, point.reason) == (Link.OFFLINE, "not read yet")
    assert (point.quality, point.measured_at, point.age_s, point.since) == (None, None, None, None)
    assert point.values == {}
    assert point.polling.requests == {"ok": 0, "timeout": 0, "exception": 0, "connection": 0}


async def test_values_have_an_age_and_keep_it_while_nothing_can_be_read(site):
    site.reporter.status("rp-01", LinkState(Link.ONLINE, None, Identity(vendor="ABB")))
    read(site, state="charging", active_power_w=11040.0)
    site.time.now_s += 2.5
    read(site)
    point = site.point()
    assert (point.state, point.quality, point.age_s) == (Link.ONLINE, "bad", 2.5)
    assert point.values == {"state": "charging", "active_power_w": 11040.0}
    assert point.identity.vendor == "ABB"


async def test_a_clock_that_was_set_back_makes_no_negative_age(site):
    read(site, state="available")
    site.time.now_s -= 100.0
    assert site.point().age_s == 0.0


async def test_an_agents_recharge_point_is_not_polled_here(site):
    point = site.point("rp-07")
    assert (point.agent, point.polling, point.limit) == ("plc-1", None, None)


async def test_a_limit_tells_why_and_for_how_long(site):
    assert site.point().limit.why == "as the device has it"
    now_ms = site.time.wall_ms()
    await site.reconciler.accept(
        Command(
            id="c-1",
            gateway="site-042",
            recharge_point="rp-01",
            action=Action.SET_CURRENT_LIMIT,
            issued_at_ms=None,
            expires_at_ms=now_ms + 60_000,
            lease_s=900.0,
            issuer="dr-service",
            purpose=Purpose.MARKET,
            current_a=10.0,
        )
    )
    limit = site.point().limit
    assert (limit.current_a, limit.paused, limit.why) == (10.0, False, "market limit")
    (hold,) = limit.holds
    assert (hold.issuer, hold.command_id) == ("dr-service", "c-1")
    assert hold.ends_at is not None


# The rest of the status.


async def test_queues_and_the_journal_are_counted(site):
    await site.journal.accept([Record("evedge.telemetry", b"k", b"value", (), 0, durable=True)])
    status = site.status()
    assert [(queue.kafka_topic, queue.waiting) for queue in status.queues] == [("evedge.telemetry", 1)]
    assert (status.links.journal.bytes, status.links.journal.waiting) == (6, 1)


async def test_links_and_alerts_are_told(site):
    site.reporter.raise_alert("journal_full", "nearly full")
    status = site.status()
    assert status.links.mqtt.bind == "127.0.0.1:1883"
    assert status.links.mqtt.clients == 2
    assert status.links.kafka.up is False
    assert [alert.kind for alert in status.alerts] == ["journal_full"]


async def test_no_secret_is_shown(site):
    shown = msgspec.json.encode(site.status()) + render(site.snapshot.figures(), "")[0]
    assert SECRET.encode() not in shown
    assert b"argon2" not in shown


# Figures.


async def test_requests_of_all_recharge_points_are_one_histogram(site):
    site.device.stats.request(Outcome.OK, 0.004)
    site.device.stats.request(Outcome.TIMEOUT, 3.0)
    figures = site.snapshot.figures()
    assert figures.request_seconds.count == 2
    assert figures.request_seconds.sum_s == pytest.approx(3.004)
    assert next(figures.request_seconds.cumulative()) == (0.005, 1)


async def test_a_command_is_timed_from_its_acceptance_to_its_end(site):
    command = Command(
        id="c-1",
        gateway="site-042",
        recharge_point="rp-01",
        action=Action.PAUSE,
        issued_at_ms=None,
        expires_at_ms=site.time.wall_ms() + 1000,
        lease_s=None,
        issuer=None,
        purpose=Purpose.USER,
    )
    await site.reconciler.accept(command)
    site.time.now_s += 2.0
    await site.reconciler._expire()
    figures = site.snapshot.figures()
    assert figures.commands == {("pause", "accepted"): 1, ("pause", "expired"): 1}
    assert (figures.command_seconds.count, figures.command_seconds.sum_s) == (1, 2.0)


# Ready?


async def test_a_gateway_that_does_its_work_is_ready(site):
    assert site.snapshot.ready() is None
    assert site.status().gateway.state is Link.ONLINE


async def test_neither_kafka_nor_a_dead_recharge_point_is_a_reason(site):
    site.reporter.status("rp-01", LinkState(Link.OFFLINE, "no answer"))
    assert site.producer.up is False
    assert site.snapshot.ready() is None


async def test_starting_and_stopping_are_reasons(site):
    site.snapshot.not_ready = "stopping"
    assert site.snapshot.ready() == "stopping"
    status = site.status()
    assert (status.gateway.state, status.gateway.reason) == (Link.DEGRADED, "stopping")


async def test_a_broker_that_does_not_listen_is_a_reason(site):
    site.mqtt_address = None
    assert site.snapshot.ready() == "the MQTT broker does not listen"
    assert site.status().links.mqtt.bind is None


async def test_a_disk_that_takes_nothing_is_a_reason(site):
    site.journal.database.trouble = "database or disk is full"
    assert site.snapshot.ready() == "the journal cannot be written: database or disk is full"
    assert site.status().links.journal.trouble == "database or disk is full"


async def test_a_poller_that_hangs_is_a_reason(site):
    task = asyncio.create_task(site.housekeeping.run())
    try:
        await site.time.advance(STALLED_S + 1)
        assert site.snapshot.ready() is None  # a slow device may take that long
        await site.time.advance(STALLED_S + 1)
        assert site.snapshot.ready().startswith("poller[192.0.2.10:502] has made no progress for 12")
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_housekeeping_that_hangs_is_a_reason(site):
    site.time.now_s += 20.0
    assert site.snapshot.ready() == "housekeeping has made no progress for 20 s"


async def test_an_event_loop_that_is_held_up_is_a_reason(site):
    site.housekeeping.lag.note(7.25, site.time.now_s)
    assert site.snapshot.ready() == "the event loop was held up for 7.2 s"


async def test_an_agents_recharge_point_shows_what_the_agent_told(site):
    at_ms = site.time.wall_ms() - 1500
    site.reporter.agent_status("rp-07", LinkState(Link.ONLINE, None, Identity("ABB")), since_ms=at_ms)
    site.reporter.agent_telemetry("rp-07", {"active_power_w": 11040.0}, measured_at_ms=at_ms, quality=Quality.GOOD)
    point = site.point("rp-07")
    assert (point.state, point.values, point.age_s) == (Link.ONLINE, {"active_power_w": 11040.0}, 1.5)
    assert point.identity.vendor == "ABB"
    metrics = render(site.snapshot.figures(), "")[0].decode()
    assert 'evedge_telemetry_age_seconds{recharge_point="rp-07"} 1.5' in metrics


async def test_an_agent_shows_its_broker_and_is_ready_without_it(site):
    config = parse(
        {
            "gateway": {"id": "site-042"},
            "mqtt": {"url": "mqtt://192.0.2.1", "username": "plc-1", "password": SECRET},
            "recharge_points": CONFIG["recharge_points"][:1],
        }
    )
    client = MqttClient(build.agent_client(config, "1"), heard=lambda topic, payload: None)
    client.last_error = "no route to host"
    site.snapshot.config, site.snapshot.broker = config, client
    site.snapshot.mqtt = site.snapshot.producer = None
    links = site.status().links
    assert (links.mqtt, links.kafka) == (None, None)
    assert (links.broker.url, links.broker.agent, links.broker.up) == ("mqtt://192.0.2.1:1883", "plc-1", False)
    assert links.broker.last_error == "no route to host"
    site.snapshot.housekeeping.look()
    assert site.snapshot.ready() is None
    assert "evedge_mqtt_up 0.0" in render(site.snapshot.figures(), "")[0].decode()
    assert SECRET not in f"{client!r} {site.status()}"
