"""Whether the devices of a configuration can be polled as often as it says: the one place where that is decided.

`evedge plan` refuses what is a mistake here, `evedge check` notes it. The gateway itself does not refuse: it polls as
well as the device allows and counts what it misses, since the time an answer takes is assumed here and measured there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evedge.config import Config, Mistake
from evedge.config.mistakes import toml_path
from evedge.config_profiles import plan_for, poll_interval_s, shared_endpoints
from evedge.core.forecast import TYPICAL_ANSWER_S, EndpointForecast, PolledPoint, asked_more_often
from evedge.core.profile import Profile
from evedge.flows.schedule import SLOT_MS, Schedule

SLOT_S = SLOT_MS / 1000
_MOST_NAMES = 4


@dataclass(frozen=True, slots=True)
class TooFast:
    """Polls of one endpoint that do not fit into the time there is. `lowest_interval_s` would."""

    endpoint: EndpointForecast
    lowest_interval_s: float
    mistake: Mistake


def forecast_endpoints(
    config: Config, profiles: Mapping[str, Profile], *, answer_s: float = TYPICAL_ANSWER_S
) -> list[EndpointForecast]:
    """What each endpoint will be asked, in the order of the configuration. answer_s: how long an answer may take."""
    return [
        EndpointForecast(
            shared.name,
            tuple(
                PolledPoint(point.id, plan_for(point, profile), _interval_s(poll_interval_s(point, profile)))
                for point, profile in shared.points
            ),
            shared.pause_between_requests_s,
            answer_s,
        )
        for shared in shared_endpoints(config, profiles)
    ]


def too_fast(config: Config, endpoints: Sequence[EndpointForecast]) -> list[TooFast]:
    """The endpoints that cannot keep up, each with its mistake: one key to correct, and the interval it could keep."""
    found = []
    for endpoint in endpoints:
        if not endpoint.keeps_up:
            lowest_s = endpoint.lowest_interval_s(SLOT_S)
            found.append(TooFast(endpoint, lowest_s, _mistake(config, endpoint, lowest_s)))
    return found


def pace_notes(config: Config, endpoints: Sequence[EndpointForecast]) -> list[str]:
    """What fits and is worth a second look: one line each."""
    found = [
        f"{endpoint.name}: polls take {endpoint.occupancy:.0%} of its time, so commands wait for their turn"
        for endpoint in endpoints
        if endpoint.is_nearly_full
    ]
    points = {point.recharge_point: point for endpoint in endpoints for point in endpoint.points}
    for index, given in enumerate(config.recharge_points):
        point = points.get(given.id)
        if point is None or given.poll_interval_s is None:
            continue
        where = f"{toml_path(('recharge_points', index, 'poll_interval_s'))} = {given.poll_interval_s:g}"
        profile = point.plan.profile
        if given.poll_interval_s < profile.connection.poll_interval_s:
            found.append(f"{where}: profile {profile.name} recommends {profile.connection.poll_interval_s:g} s")
        if point.interval_s != given.poll_interval_s:
            found.append(f"{where}: polls start on a grid of {SLOT_S:g} s, so every {point.interval_s:g} s")
    return found


def _interval_s(configured_s: float) -> float:
    """On the grid that polls start on."""
    return Schedule(configured_s, slot=0, now_s=0.0).interval_s


def _mistake(config: Config, endpoint: EndpointForecast, lowest_s: float) -> Mistake:
    concerned = asked_more_often(endpoint.points, lowest_s)
    first = concerned[0].recharge_point
    index = next(index for index, point in enumerate(config.recharge_points) if point.id == first)
    given_s = config.recharge_points[index].poll_interval_s
    return Mistake(
        ("recharge_points", index, "poll_interval_s"),
        _why(endpoint, concerned),
        value=None if given_s is None else f"{given_s:g}",
        allowed=f"{lowest_s:g} s or more" + (f" for each of these {len(concerned)}" if len(concerned) > 1 else ""),
    )


def _why(endpoint: EndpointForecast, concerned: Sequence[PolledPoint]) -> str:
    """In numbers: `…: cannot be kept by 192.0.2.10:502: 14 requests take 7.7 s (0.5 s pause, 0.05 s answer each)`."""
    requests = sum(len(point.plan.poll) for point in endpoint.points)
    busy_s = sum(endpoint.busy_s(point) for point in endpoint.points)
    parts = [f"{endpoint.pause_s:g} s pause"] if endpoint.pause_s else []
    each = " and ".join([*parts, f"an assumed {endpoint.answer_s:g} s for the answer"])
    text = f"cannot be kept by {endpoint.name}: {requests} requests take {busy_s:.4g} s, with {each} to each"
    if len(endpoint.points) == 1:
        return f"{_interval(concerned)} {text}"
    ids = [point.recharge_point for point in endpoint.points]
    names = ", ".join(ids) if len(ids) <= _MOST_NAMES else f"{ids[0]} to {ids[-1]}"
    return f"{_interval(concerned)} {text}; {names} share it"


def _interval(concerned: Sequence[PolledPoint]) -> str:
    return f"a poll every {min(point.interval_s for point in concerned):g} s"
