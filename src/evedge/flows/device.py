"""A recharge point that is polled: what is known of it, and the way to write to it between two polls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from evedge.core.backoff import Backoff
from evedge.core.model import Value
from evedge.core.plan import Plan, Reading
from evedge.core.profile import Write
from evedge.core.reading import Identity, LinkState, NoAnswer
from evedge.flows.poll_stats import PollStats
from evedge.flows.schedule import Schedule
from evedge.flows.shared_endpoint import SharedEndpoint

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Polled:
    """A recharge point to read: its id, what to read, and how often."""

    recharge_point: str
    plan: Plan
    interval_s: float


class Device:
    """One recharge point at its endpoint. `link` is None and `reading` too until something was tried."""

    def __init__(self, polled: Polled, endpoint: SharedEndpoint, schedule: Schedule) -> None:
        self.recharge_point = polled.recharge_point
        self.stats = PollStats()
        self.link: LinkState | None = None
        self.reading: Reading | None = None
        self.notes = Notes(polled.plan, schedule)
        self._endpoint = endpoint

    async def run(self, job: Callable[[DeviceAccess], Awaitable[T]], *, deadline_s: float = 15.0) -> T:
        """Runs a job that has the device alone, between two requests of a poll, and at once when none is under way.

        The job runs in the caller's task. Raises what the job raises, and Outage when the device cannot be reached or
        the job is not done within `deadline_s`; then nobody knows whether a write that had begun was taken.
        """
        try:
            async with asyncio.timeout(deadline_s) as limit, self._endpoint.turn():
                self.notes.retry_s = -math.inf  # it can be connected to: if polling failed, it is worth another try
                return await job(DeviceAccess(self, self._endpoint))
        except TimeoutError:
            if not limit.expired():
                raise
            raise NoAnswer(f"{self.recharge_point} could not be reached within {deadline_s:g} s") from None

    def __repr__(self) -> str:
        return f"<Device {self.recharge_point}, {self.link.state if self.link else 'not tried yet'}>"


class DeviceAccess:
    """A device while a job has it alone. Not to be kept after the job."""

    def __init__(self, device: Device, endpoint: SharedEndpoint) -> None:
        self._device = device
        self._endpoint = endpoint

    async def write(self, write: Write) -> None:
        """Writes once; how long the device then wants to be left alone is for the caller to keep.

        Raises Refused for a Modbus exception, Outage otherwise (see `Device.run`), ValueError for what is not writable.
        """
        await self._endpoint.write(self._device.notes.plan.wire_write(write), self._device.stats)

    async def read(self, register: str) -> Value | None:
        """One register's value by its name; None where the device marks it as not available. Raises Refused, Outage."""
        plan = self._device.notes.plan
        words: Sequence[int] = await self._endpoint.read(plan.block_of(register), self._device.stats)
        return plan.value_of(register, words)


class Notes:
    """What the poller keeps of a device from one poll to the next. Nobody else's business."""

    def __init__(self, plan: Plan, schedule: Schedule) -> None:
        self.plan = plan
        self.whole_plan = plan
        self.schedule = schedule
        self.attended_s = -math.inf
        self.backoff = Backoff()
        self.failing: str | None = None  # why it is read only after a backoff
        self.retry_s = -math.inf
        self.misses = 0
        self.crashed: str | None = None
        self.identity = Identity()
        self.identity_asked = False
        self.identity_of = 0  # the connection it was read on
        self.identity_not_before_s = -math.inf
        self.known: dict[str, Value] = {}  # registers read with the identity
