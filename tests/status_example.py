"""A gateway's status as the web is given it, and a source that tests turn."""

from evedge.core.commands import Purpose
from evedge.core.histogram import Histogram
from evedge.core.model import Alert, AlertState, Link, Quality, Severity
from evedge.core.reading import Identity
from evedge.core.status import (
    GatewayNow,
    HoldNow,
    JournalNow,
    KafkaNow,
    LimitNow,
    LinksNow,
    MqttNow,
    PollingNow,
    Queue,
    RechargePointNow,
    Status,
)
from evedge.web.metrics import Figures

STATUS = Status(
    gateway=GatewayNow(
        id="site-042",
        version="1.2.3",
        role="gateway",
        state=Link.ONLINE,
        reason=None,
        started_at="2026-11-23T09:00:00.000Z",
        uptime_s=11_100.0,
    ),
    recharge_points=[
        RechargePointNow(
            id="rp-01",
            state=Link.ONLINE,
            reason=None,
            since="2026-11-23T09:00:01.000Z",
            quality=Quality.GOOD,
            measured_at="2026-11-23T12:05:00.000Z",
            age_s=0.4,
            identity=Identity(vendor="ABB", model="Terra AC"),
            values={"state": "charging", "active_power_w": 11040.0, "current_limit_a": 10.0, "plugged": True},
            agent=None,
            limit=LimitNow(
                current_a=10.0,
                paused=False,
                why="market limit",
                command_id="c-1",
                holds=[
                    HoldNow(
                        purpose=Purpose.MARKET,
                        current_a=10.0,
                        issuer="dr-service",
                        command_id="c-1",
                        ends_at="2026-11-23T12:20:00.000Z",
                    )
                ],
            ),
            polling=PollingNow(
                polls=11_100,
                overruns=0,
                writes=3,
                requests={"ok": 11_100, "timeout": 2, "exception": 0, "connection": 1},
                last_poll_s=0.01,
            ),
        ),
        RechargePointNow(
            id="rp-07",
            state=Link.OFFLINE,
            reason="agent plc-1 is not connected",
            since="2026-11-23T09:00:00.000Z",
            quality=None,
            measured_at=None,
            age_s=None,
            identity=Identity(),
            values={},
            agent="plc-1",
            limit=None,
            polling=None,
        ),
    ],
    links=LinksNow(
        mqtt=MqttNow(bind="127.0.0.1:1883", clients=3, sessions=4, received=7, delivered=9, dropped={}),
        kafka=KafkaNow(
            bootstrap_servers=["127.0.0.1:9092"],
            up=False,
            last_error="connection refused",
            blocked={"evedge.telemetry": "Kafka at 127.0.0.1:9092: connection refused"},
        ),
        journal=JournalNow(bytes=4096, max_bytes=1_048_576, when_full="block", waiting=8, trouble=None),
    ),
    queues=[
        Queue(kafka_topic="evedge.alerts", accepted=2, confirmed=2, waiting=0, dropped={}),
        Queue(kafka_topic="evedge.telemetry", accepted=100, confirmed=91, waiting=8, dropped={"dead_letter": 1}),
    ],
    alerts=[
        Alert(
            id="site-042/rp-07/offline/1",
            gateway="site-042",
            kind="offline",
            severity=Severity.ERROR,
            state=AlertState.RAISED,
            raised_at="2026-11-23T09:00:00.000Z",
            message="agent plc-1 is not connected",
            recharge_point="rp-07",
        )
    ],
)


def figures(status=STATUS):
    command_seconds = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.2, 30.0):
        command_seconds.observe(seconds)
    return Figures(
        status=status,
        commands={("set_current_limit", "accepted"): 2, ("set_current_limit", "verified"): 1},
        request_seconds=Histogram((0.005, 0.01), [5, 3, 1], 0.25),
        command_seconds=command_seconds,
        loop_lag_s=0.012,
    )


class TurnedSource:
    """What `WebServer` asks. `shown`: its answer; `fails`: what its next answers raise."""

    def __init__(self):
        self.shown = STATUS
        self.not_ready = None
        self.fails = None

    def status(self):
        if self.fails is not None:
            raise self.fails
        return self.shown

    def figures(self):
        return figures()

    def ready(self):
        return self.not_ready
