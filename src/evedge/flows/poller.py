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

Invariants: one request at a time and, after the first, at most one connection attempt a second for each endpoint;
nothing is written twice; when the task ends the connection is closed and nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, TypeVar

import structlog

from evedge.core.backoff import Backoff
from evedge.core.errors import Outage, Refused
from evedge.core.model import Link, Value
from evedge.core.plan import Block, Plan, Reading
from evedge.core.profile import Register, Write
from evedge.core.reading import Identity, LinkState, ModbusException, NoAnswer
from evedge.flows.clock import Clock
from evedge.flows.poll_stats import Outcome, PollStats
from evedge.flows.schedule import Schedule
from evedge.flows.turns import Turns

log = structlog.get_logger()
T = TypeVar("T")
Words: TypeAlias = dict[Block, Sequence[int] | str]

MISSES_UNTIL_OFFLINE = 2
BETWEEN_CONNECTION_ATTEMPTS_S = 1.0
IDENTITY_AGAIN_AFTER_S = 600.0
"""A device that falls silent when it is asked who it is costs a connection each time: do not ask soon again."""


class Endpoint(Protocol):
    """What a poller needs of a Modbus link.

    `connect`, `read` and `write` raise Outage (a time-out: NoAnswer) or Refused; after an Outage it is not connected.
    """

    @property
    def connected(self) -> bool: ...
    async def connect(self) -> None: ...
    def close(self) -> None: ...
    async def read(self, block: Block, /) -> Sequence[int]: ...
    async def write(self, unit_id: int, function: int, address: int, words: Sequence[int], /) -> None: ...


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


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Polled:
    """A recharge point to read: its id, what to read, and how often."""

    recharge_point: str
    plan: Plan
    interval_s: float


class Device:
    """One recharge point at its endpoint, as others see it: its figures, and the way to write to it."""

    def __init__(self, polled: Polled, poller: Poller, schedule: Schedule) -> None:
        self.recharge_point = polled.recharge_point
        self.plan = polled.plan
        self.reading: Reading | None = None  # the last one, with values or without
        self.stats = PollStats()
        self.link: LinkState | None = None  # None: nothing was tried yet
        self._poller = poller
        # the poller's own notes
        self.whole_plan = polled.plan
        self.schedule = schedule
        self.backoff = Backoff()
        self.failing: str | None = None  # why it is read only after a backoff
        self.retry_s = -math.inf
        self.misses = 0
        self.identity = Identity()
        self.identity_of = 0  # the connection it was read on
        self.identity_asked = False
        self.identity_not_before_s = -math.inf
        self.known: dict[str, Value] = {}  # registers read with the identity
        self.crashed: str | None = None

    async def run(self, job: Callable[[DeviceAccess], Awaitable[T]], *, deadline_s: float = 15.0) -> T:
        """Runs a job that has the device alone, between two requests of a poll, and at once when none is under way.

        The job runs in the caller's task. Raises what the job raises, and Outage when the device cannot be reached or
        the job is not done within `deadline_s`; then nobody knows whether a write that had begun was taken.
        """
        return await self._poller.run_job(self, job, deadline_s)

    def __repr__(self) -> str:
        return f"<Device {self.recharge_point}, {self.link.state if self.link else 'not tried yet'}>"


class DeviceAccess:
    """A device while a job has it alone. Not to be kept after the job."""

    def __init__(self, device: Device, poller: Poller) -> None:
        self._device = device
        self._poller = poller

    async def write(self, write: Write) -> None:
        """Writes once; how long the device then wants to be left alone is for the caller to keep.

        Where the register is some bits of a number, the others are read first and written as they were. Raises Refused
        for a Modbus exception, Outage otherwise; see `Device.run`. Raises ValueError for a register to read only.
        """
        wire = self._device.plan.wire_write(write)
        register, words = write.register, wire.words
        if register.readable and (register.bit is not None or register.mask is not None):
            words = register.insert(await self._words(register), write.value)
        await self._poller.write(self._device, wire.unit_id, wire.function, wire.address, words)

    async def read(self, register: Register) -> Value | None:
        """One register's value; None where the device marks it as not available. Raises Refused, Outage."""
        return register.decode(await self._words(register))

    async def _words(self, register: Register) -> Sequence[int]:
        return await self._poller.request(self._device, self._device.plan.block_of(register.name))


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
        call_later: Callable[[float, Callable[[], None]], Timer] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = f"poller[{name}]"
        self._endpoint = endpoint
        self._sink = sink
        self._clock = clock
        self._call_later = call_later if call_later is not None else asyncio.get_running_loop().call_later
        self._chance = chance
        self._turns = Turns(self._wake)
        self._woken: asyncio.Future[None] | None = None
        self._stopped = False
        self._backoff = Backoff()
        self._down: str | None = None  # why the last connection attempt failed
        self._attempted_s = -math.inf
        self._retry_s = -math.inf
        self._connections = 0
        now_s = self._clock.monotonic_s()
        self._devices = tuple(Device(one, self, Schedule(one.interval_s, slot=slot, now_s=now_s)) for one in polled)
        self.devices: Mapping[str, Device] = {device.recharge_point: device for device in self._devices}

    async def serve(self) -> None:
        """Polls until it is cancelled."""
        self._turns.begin()
        try:
            while True:
                if self._turns:
                    await self._turns.give()
                now_s = self._clock.monotonic_s()
                device = min(self._devices, key=self._next_s)
                if (next_s := self._next_s(device)) > now_s:
                    await self._wait(next_s - now_s, for_turns=True)
                    continue
                self._sink.progress()
                await self._attend(device, now_s)
        finally:
            self._stopped = True
            self._endpoint.close()
            self._turns.end("the poller has stopped")

    # when

    def _next_s(self, device: Device) -> float:
        """When a device wants attention: when it is due, and when what keeps it from being read may be over."""
        due_s = device.schedule.next_s
        return due_s if device.failing is None else min(due_s, self._blocked_until_s(device))

    def _blocked_until_s(self, device: Device) -> float:
        return device.retry_s if self._endpoint.connected else max(device.retry_s, self._retry_s)

    async def _wait(self, seconds: float, *, for_turns: bool) -> None:
        """Waits; with `for_turns` not longer than until somebody wants a turn."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self._call_later(seconds, lambda: _resolve(over))
        self._woken = over if for_turns else None
        try:
            await over
        finally:
            timer.cancel()
            self._woken = None

    def _wake(self) -> None:
        if self._woken is not None:
            _resolve(self._woken)

    # polling

    async def _attend(self, device: Device, now_s: float) -> None:
        schedule = device.schedule
        missed = schedule.pass_over(now_s)
        if due := schedule.due(now_s):
            schedule.start()
        if device.failing is None:
            device.stats.overruns += missed
            if not due:
                return
        try:
            if self._blocked_until_s(device) <= now_s:
                await self._poll(device, due=due)
            elif due:
                self._report_unread(device)
        except Exception as error:  # noqa: BLE001 -- the last border of this device: its neighbours go on
            self._crashed(device, error)
        else:
            if device.failing is None:
                device.crashed = None

    async def _poll(self, device: Device, *, due: bool) -> None:
        began_s = self._clock.monotonic_s()
        outage: Outage | None = None
        results: Words = {}
        try:
            await self._connect()
            if not device.identity_asked:
                await self._identify(device)
                await self._connect()
            results, outage = await self._read(device, _to_poll)
        except Outage as error:
            outage = error
            results = dict.fromkeys(device.plan.poll, str(error))
        measured_at_ms = self._clock.wall_ms()
        reading = device.reading = _decode(device, results)
        device.stats.poll(self._clock.monotonic_s() - began_s, measured_at_ms, reading)
        if due or reading.values:  # trying again in between is not worth another reading without values
            self._sink.telemetry(device.recharge_point, measured_at_ms=measured_at_ms, reading=reading)
        self._judge(device, reading, outage)
        if reading.values and outage is None and device.identity_of != self._connections:
            await self._identify(device, after_poll=True)
        self._report_link(device, reading)

    async def _read(
        self, device: Device, wanted: Callable[[Plan], Sequence[Block]], done: Words | None = None
    ) -> tuple[Words, Outage | None]:
        """Each block's words, or why there are none; and what ended the reading early. `done` was read already."""
        results: Words = {} if done is None else done
        outage: Outage | None = None
        plan = device.plan
        for block in wanted(plan):
            if block in results:
                continue
            if self._turns:
                await self._turns.give()
            if outage is None:
                try:
                    results[block] = await self.request(device, block)
                    continue
                except Outage as error:
                    outage = error
                except ModbusException as error:
                    smaller = device.plan.after_refusal(block) if error.lacking and block.optional else None
                    if smaller is None:
                        results[block] = str(error)
                    else:
                        device.plan = smaller
                    continue
            results[block] = str(outage)
        if device.plan is plan or outage is not None:
            return results, outage
        return await self._read(device, wanted, results)  # it lacks something: the rest of that, as it bears it

    async def _identify(self, device: Device, *, after_poll: bool = False) -> None:
        """Asks who it is, once per connection. An outage ends the connection and nothing else."""
        device.identity_asked = True
        if self._clock.monotonic_s() < device.identity_not_before_s:
            return
        device.identity_of = self._connections
        results, outage = await self._read(device, _to_identify)
        if outage is None:
            answers = {block: results[block] for block in device.plan.identity}  # it may have shrunk meanwhile
            device.identity = Identity(**device.plan.decode_identity(answers))
            registers = device.plan.decode_registers(answers).values()
            device.known = {register.name: register.value for register in registers if register.value is not None}
        elif after_poll:  # it answered the poll, so the question is to blame
            device.identity_not_before_s = self._clock.monotonic_s() + IDENTITY_AGAIN_AFTER_S
            log.warning("identity_not_read", recharge_point=device.recharge_point, error=str(outage))

    # what it means

    def _judge(self, device: Device, reading: Reading, outage: Outage | None) -> None:
        """After a try: when to try again."""
        if reading.values or outage is None:
            device.failing = None
            device.backoff.succeeded()
        else:
            device.failing = str(outage)
            if self._endpoint.connected or self._down is None:  # else the endpoint's own backoff counts
                device.retry_s = self._clock.monotonic_s() + device.backoff.failed(self._chance())
        device.misses = 0 if reading.values else device.misses + 1

    def _report_link(self, device: Device, reading: Reading) -> None:
        if reading.values:
            state = Link.DEGRADED if reading.errors else Link.ONLINE
        elif self._down is not None or device.misses >= MISSES_UNTIL_OFFLINE:
            state = Link.OFFLINE
            device.plan = device.whole_plan  # it may come back with another firmware
        else:
            return
        self._change(device, LinkState(state, _reason(reading), device.identity))

    def _report_unread(self, device: Device) -> None:
        """A device that is due while it is no use trying."""
        reason = device.failing or self._down or "not connected"
        if not self._endpoint.connected and self._down is not None:
            reason = self._down
        device.failing = reason
        reading = device.reading = _decode(device, dict.fromkeys(device.plan.poll, reason))
        self._sink.telemetry(device.recharge_point, measured_at_ms=self._clock.wall_ms(), reading=reading)
        self._report_link(device, reading)

    def _change(self, device: Device, link: LinkState) -> None:
        if link == device.link:
            return
        device.link = link
        self._sink.status(device.recharge_point, link)

    def _crashed(self, device: Device, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        again = text == device.crashed
        device.crashed = text
        device.stats.crashes += 1
        device.failing = f"internal error: {text}"
        delay_s = device.backoff.failed(self._chance())
        device.retry_s = self._clock.monotonic_s() + delay_s
        self._endpoint.close()
        log.error(  # the traceback once: the same defect comes back with every try
            "poll_crashed",
            recharge_point=device.recharge_point,
            error=text,
            retry_in_s=round(delay_s, 1),
            exc_info=None if again else error,
        )
        self._sink.failed((device.recharge_point,), text)

    # the endpoint; used by whoever has the turn, the poller or a job

    async def _connect(self) -> None:
        if self._endpoint.connected:
            return
        if self._stopped:
            raise Outage("the poller has stopped")
        pause_s = self._attempted_s + BETWEEN_CONNECTION_ATTEMPTS_S - self._clock.monotonic_s()
        if pause_s > 0:
            await self._wait(pause_s, for_turns=False)
        self._attempted_s = self._clock.monotonic_s()
        try:
            await self._endpoint.connect()
        except Outage as error:
            self._down = str(error)
            self._retry_s = self._clock.monotonic_s() + self._backoff.failed(self._chance())
            raise
        if self._stopped:  # a job connected while the poller's task ended
            self._endpoint.close()
            raise Outage("the poller has stopped")
        self._down = None
        self._retry_s = -math.inf
        self._backoff.succeeded()
        self._connections += 1

    async def request(self, device: Device, block: Block) -> Sequence[int]:
        """Reads one block and counts it."""
        return await self._counted(device, self._endpoint.read(block))

    async def write(self, device: Device, unit_id: int, function: int, address: int, words: Sequence[int]) -> None:
        """Writes once and counts it."""
        device.stats.writes += 1
        await self._counted(device, self._endpoint.write(unit_id, function, address, words))

    async def _counted(self, device: Device, request: Awaitable[T]) -> T:
        began_s = self._clock.monotonic_s()
        outcome = Outcome.CONNECTION
        try:
            answer = await request
            outcome = Outcome.OK
        except NoAnswer:
            outcome = Outcome.TIMEOUT
            raise
        except Refused:
            outcome = Outcome.EXCEPTION
            raise
        finally:
            device.stats.request(outcome, self._clock.monotonic_s() - began_s)
        return answer

    async def run_job(self, device: Device, job: Callable[[DeviceAccess], Awaitable[T]], deadline_s: float) -> T:
        """See `Device.run`."""
        try:
            async with asyncio.timeout(deadline_s) as limit, self._turns.take():
                await self._connect()
                if device.failing is not None:
                    device.retry_s = self._clock.monotonic_s()  # it can be connected to: worth a poll right after
                return await job(DeviceAccess(device, self))
        except TimeoutError:
            if not limit.expired():
                raise
            raise NoAnswer(f"{device.recharge_point} could not be reached within {deadline_s:g} s") from None


def _decode(device: Device, results: Words) -> Reading:
    """The reading; when nothing was read it has no values, whatever a profile's rules make of what was known before."""
    reading = device.plan.decode(results, device.known)
    if not reading.values or any(not isinstance(answer, str) for answer in results.values()):
        return reading
    reason = next((str(answer) for answer in results.values()), "nothing to read")
    return replace(reading, values={}, errors={**dict.fromkeys(reading.values, reason), **reading.errors}, derived=[])


def _to_poll(plan: Plan) -> Sequence[Block]:
    return plan.poll


def _to_identify(plan: Plan) -> Sequence[Block]:
    return plan.identity


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _reason(reading: Reading) -> str | None:
    """What is wrong with a reading, in words, without figures that change from poll to poll."""
    if not reading.errors:
        return None if reading.values else "it offers nothing that can be read"
    name, reason = next(iter(reading.errors.items()))
    if not reading.values:
        return reason
    more = len(reading.errors) - 1
    return f"{name}: {reason}" if not more else f"{name} and {more} more values: {reason}"
