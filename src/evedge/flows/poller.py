"""Reads recharge points: one task for each Modbus TCP endpoint, whether one recharge point answers there or several.

A poll reads a recharge point's blocks one after another; between two requests whoever wants to write (the commander)
has the endpoint alone, first in line. What a poll brought goes to the sink as a `Reading`, and what it says about the
link as a `LinkState`, when that changed. Knows neither pymodbus nor MQTT nor payloads.

How failures are met:
- A Modbus exception costs the values of its block, nothing else. Optional registers that the device lacks are found
  out by it and asked for no more, until the device was away.
- Who a device is, is read before its first poll, as what its values mean can rest on it; on later connections after the
  poll, so that one which falls silent over the question keeps its telemetry.
- An outage (time-out, lost connection, garbage) ends the poll; what was not read says so. When nothing was read, the
  recharge point is tried again after a backoff that doubles up to some seconds, not only when it is next due.
- While it cannot be read, each interval brings one reading without values, with the reason.
- An unexpected exception is a defect: logged, counted, told to the sink, and the recharge point is tried again later.

Decides what is read when, and what it means; the connection, its turns and its pace are `SharedEndpoint`'s. Nothing is
asked for twice, and when the task ends the connection is closed and nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

import structlog

from evedge.core.errors import Outage
from evedge.core.model import Link
from evedge.core.plan import Block, Plan, Reading
from evedge.core.reading import Identity, LinkState, ModbusException, understand
from evedge.flows.clock import Clock
from evedge.flows.device import Device, DeviceAccess, Polled
from evedge.flows.schedule import Schedule
from evedge.flows.shared_endpoint import CallLater, Endpoint, SharedEndpoint

__all__ = ["Device", "DeviceAccess", "Endpoint", "Polled", "Poller", "Sink"]

log = structlog.get_logger()
Words: TypeAlias = dict[Block, Sequence[int] | str]
"""What came back for each block, or why nothing did."""

MISSES_UNTIL_OFFLINE = 2
IDENTITY_AGAIN_AFTER_S = 600.0
"""A device that falls silent when it is asked who it is costs a connection each time: do not ask soon again."""


class Sink(Protocol):
    """Where it goes. None of these wait."""

    def telemetry(self, recharge_point: str, *, measured_at_ms: int, reading: Reading) -> None:
        """A poll. When nothing could be read `reading.values` is empty and `reading.errors` is not."""

    def status(self, recharge_point: str, status: LinkState) -> None:
        """Called for changes only, of the state, its reason or the identity."""

    def failed(self, recharge_points: Sequence[str], error: str) -> None:
        """Polling these met a defect, worth an alert; it goes on later."""

    def progress(self) -> None:
        """The poller's task is alive."""


class Poller:
    """Polls what answers at one endpoint. `serve` is its task; name that task `name`.

    slot: which of the 100 ms slots its polls start in; count endpoints up to spread them. clock, call_later and chance
    are the time and the luck of it, for tests to turn. Build it inside the running event loop.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        polled: Iterable[Polled],
        sink: Sink,
        *,
        clock: Clock,
        slot: int = 0,
        call_later: CallLater | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = f"poller[{name}]"
        self._sink = sink
        self._clock = clock
        self._chance = chance
        if call_later is None:
            call_later = asyncio.get_running_loop().call_later
        self._endpoint = SharedEndpoint(endpoint, clock, call_later, chance)
        now_s = clock.monotonic_s()
        all_polled = tuple(polled)
        self._devices = tuple(
            # Those that share the endpoint take turns over the interval: in one slot the last would always be late.
            Device(one, self._endpoint, Schedule(one.interval_s, slot=slot, share=turn / len(all_polled), now_s=now_s))
            for turn, one in enumerate(all_polled)
        )
        self.devices: Mapping[str, Device] = {device.recharge_point: device for device in self._devices}

    async def serve(self) -> None:
        """Polls until it is cancelled."""
        self._endpoint.begin()
        try:
            while True:
                if self._endpoint.wanted:
                    await self._endpoint.give_way()
                now_s = self._clock.monotonic_s()
                device = self._most_neglected(now_s)
                if device is None:
                    next_s = min(self._next_s(each) for each in self._devices)
                    await self._endpoint.idle(next_s - now_s)
                    continue
                self._sink.progress()
                await self._attend(device, now_s)
        finally:
            self._endpoint.end()

    def behind_s(self, now_s: float) -> float:
        """How long even its most punctual device has been due: more than a poll can take means that the task hangs."""
        return max(min((now_s - device.notes.schedule.next_s for device in self._devices), default=0.0), 0.0)

    # when

    def _most_neglected(self, now_s: float) -> Device | None:
        """Of the devices that want attention the one that had none for the longest: too many starve none of them."""
        wanting = (device for device in self._devices if self._next_s(device) <= now_s)
        return min(wanting, key=lambda device: device.notes.attended_s, default=None)

    def _next_s(self, device: Device) -> float:
        """When a device wants attention: when it is due, and when what keeps it from being read may be over."""
        due_s = device.notes.schedule.next_s
        return due_s if device.notes.failing is None else min(due_s, self._blocked_until_s(device))

    def _blocked_until_s(self, device: Device) -> float:
        return max(device.notes.retry_s, self._endpoint.blocked_until_s)

    # polling

    async def _attend(self, device: Device, now_s: float) -> None:
        schedule = device.notes.schedule
        device.notes.attended_s = now_s
        if due := schedule.due(now_s):
            missed = schedule.start(now_s)
            if device.notes.failing is None:
                device.stats.overruns += missed
        elif device.notes.failing is None:
            return
        try:
            if self._blocked_until_s(device) <= now_s:
                await self._poll(device, due=due)
            elif due:
                self._report_unread(device)
        except Exception as error:  # noqa: BLE001 -- the last border of this device: its neighbours go on
            self._crashed(device, error)
        else:
            if device.notes.failing is None:
                device.notes.crashed = None

    async def _poll(self, device: Device, *, due: bool) -> None:
        began_s = self._clock.monotonic_s()
        outage: Outage | None = None
        results: Words = {}
        try:
            await self._endpoint.connect()
            if not device.notes.identity_asked:
                await self._identify(device)
                await self._endpoint.connect()
            results, outage = await self._read(device, _to_poll)
        except Outage as error:
            outage = error
            results = dict.fromkeys(device.notes.plan.poll, str(error))
        measured_at_ms = self._clock.wall_ms()
        reading = device.reading = understand(device.notes.plan, results, device.notes.known)
        device.stats.poll(self._clock.monotonic_s() - began_s, measured_at_ms, reading)
        if due or reading.values:  # trying again in between is not worth another reading without values
            self._sink.telemetry(device.recharge_point, measured_at_ms=measured_at_ms, reading=reading)
        self._judge(device, reading, outage)
        if reading.values and outage is None and device.notes.identity_of != self._endpoint.connections:
            await self._identify(device, after_poll=True)
        self._report_link(device, reading)

    async def _read(
        self, device: Device, wanted: Callable[[Plan], Sequence[Block]], done: Words | None = None
    ) -> tuple[Words, Outage | None]:
        """Each block's words, or why there are none; and what ended the reading early. `done` was read already."""
        results: Words = {} if done is None else done
        outage: Outage | None = None
        plan = device.notes.plan
        for block in wanted(plan):
            if block in results:
                continue
            if self._endpoint.wanted:
                await self._endpoint.give_way()
            if outage is None:
                try:
                    results[block] = await self._endpoint.read(block, device.stats)
                    continue
                except Outage as error:
                    outage = error
                except ModbusException as error:
                    smaller = device.notes.plan.after_refusal(block) if error.lacking and block.optional else None
                    if smaller is None:
                        results[block] = str(error)
                    else:
                        device.notes.plan = smaller
                    continue
            results[block] = str(outage)
        if device.notes.plan is plan or outage is not None:
            return results, outage
        return await self._read(device, wanted, results)  # it lacks something: the rest of that, as it bears it

    async def _identify(self, device: Device, *, after_poll: bool = False) -> None:
        """Asks who it is, once per connection. An outage ends the connection and nothing else."""
        device.notes.identity_asked = True
        if self._clock.monotonic_s() < device.notes.identity_not_before_s:
            return
        device.notes.identity_of = self._endpoint.connections
        results, outage = await self._read(device, _to_identify)
        if outage is None:
            answers = {block: results[block] for block in device.notes.plan.identity}  # it may have shrunk meanwhile
            device.notes.identity = Identity(**device.notes.plan.decode_identity(answers))
            registers = device.notes.plan.decode_registers(answers).values()
            device.notes.known = {register.name: register.value for register in registers if register.value is not None}
        elif after_poll:  # it answered the poll, so the question is to blame
            device.notes.identity_not_before_s = self._clock.monotonic_s() + IDENTITY_AGAIN_AFTER_S
            log.warning("identity_not_read", recharge_point=device.recharge_point, error=str(outage))

    # what it means

    def _judge(self, device: Device, reading: Reading, outage: Outage | None) -> None:
        """After a try: when to try again."""
        if reading.values or outage is None:
            device.notes.failing = None
            device.notes.backoff.succeeded()
        else:
            device.notes.failing = str(outage)
            if self._endpoint.connected or self._endpoint.down is None:  # else the endpoint's own backoff counts
                device.notes.retry_s = self._clock.monotonic_s() + device.notes.backoff.failed(self._chance())
        device.notes.misses = 0 if reading.values else device.notes.misses + 1

    def _report_link(self, device: Device, reading: Reading) -> None:
        if reading.values:
            state = Link.DEGRADED if reading.errors else Link.ONLINE
        elif self._endpoint.down is not None or device.notes.misses >= MISSES_UNTIL_OFFLINE:
            state = Link.OFFLINE
            device.notes.plan = device.notes.whole_plan  # it may come back with another firmware
        else:
            return
        self._change(device, LinkState(state, _reason(reading), device.notes.identity))

    def _report_unread(self, device: Device) -> None:
        """A device that is due while it is no use trying."""
        reason = device.notes.failing or self._endpoint.down or "not connected"
        if not self._endpoint.connected and self._endpoint.down is not None:
            reason = self._endpoint.down
        device.notes.failing = reason
        results = dict.fromkeys(device.notes.plan.poll, reason)
        reading = device.reading = understand(device.notes.plan, results, device.notes.known)
        self._sink.telemetry(device.recharge_point, measured_at_ms=self._clock.wall_ms(), reading=reading)
        self._report_link(device, reading)

    def _change(self, device: Device, link: LinkState) -> None:
        if link == device.link:
            return
        device.link = link
        self._sink.status(device.recharge_point, link)

    def _crashed(self, device: Device, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        again = text == device.notes.crashed
        device.notes.crashed = text
        device.stats.crashes += 1
        device.notes.failing = f"internal error: {text}"
        delay_s = device.notes.backoff.failed(self._chance())
        device.notes.retry_s = self._clock.monotonic_s() + delay_s
        self._endpoint.drop()
        log.error(  # the traceback once: the same defect comes back with every try
            "poll_crashed",
            recharge_point=device.recharge_point,
            error=text,
            retry_in_s=round(delay_s, 1),
            exc_info=None if again else error,
        )
        self._sink.failed((device.recharge_point,), text)


def _to_poll(plan: Plan) -> Sequence[Block]:
    return plan.poll


def _to_identify(plan: Plan) -> Sequence[Block]:
    return plan.identity


def _reason(reading: Reading) -> str | None:
    """What is wrong with a reading, in words, without figures that change from poll to poll."""
    if not reading.errors:
        return None if reading.values else "it offers nothing that can be read"
    name, reason = next(iter(reading.errors.items()))
    if not reading.values:
        return reason
    more = len(reading.errors) - 1
    return f"{name}: {reason}" if not more else f"{name} and {more} more values: {reason}"
