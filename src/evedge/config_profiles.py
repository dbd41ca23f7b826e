"""The profiles that a configuration names, and what the configuration and a profile say together.

The configuration's own loader knows no register maps; here they meet. A profile that cannot be used is a mistake of the
key that names it, told once however many recharge points name it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from evedge.config import Config, ConfigError, Mistake, RechargePoint
from evedge.config.mistakes import Location, shown
from evedge.config.rules import Finding
from evedge.core.errors import UsageError
from evedge.core.plan import Plan, make_plan
from evedge.core.profile import Profile, ProfileError
from evedge.profiles import load_profile

LOWEST_DEFAULT_INTERVAL_S = 1.0
"""A profile may recommend less; who wants that says so."""

METER: Location = ("site", "meter", "profile")


def resolve_profiles(config: Config) -> dict[str, Profile]:
    """The profile of every polled recharge point, by the recharge point's id. Raises ConfigError with every mistake."""
    loaded = _Loaded(config)
    found = [*loaded.findings, *_together(config, loaded.by_recharge_point)]
    if found:
        raise ConfigError([Mistake(one.location, one.what, _value(config, one.location), one.allowed) for one in found])
    return loaded.by_recharge_point


def profile_rule(config: Config) -> Iterator[Finding]:
    """The same as a rule for `load(path, rules=[profile_rule])`: so that all mistakes come at once."""
    loaded = _Loaded(config)
    yield from loaded.findings
    yield from _together(config, loaded.by_recharge_point)


def meter_profile(config: Config) -> Profile | None:
    """The profile of the site's meter, after `resolve_profiles`; None without a meter."""
    return None if config.site.meter is None else load_profile(config.site.meter.profile)


def endpoint(point: RechargePoint, profile: Profile) -> tuple[int, int]:
    """TCP port and unit id that a polled recharge point answers on."""
    return profile.connection.endpoint(point.connector, port=point.port, unit_id=point.unit_id)


def poll_interval_s(point: RechargePoint, profile: Profile) -> float:
    """From the start of one poll to the next."""
    if point.poll_interval_s is not None:
        return point.poll_interval_s
    return max(LOWEST_DEFAULT_INTERVAL_S, profile.connection.poll_interval_s)


def timeout_s(point: RechargePoint, profile: Profile) -> float:
    """How long an answer may take."""
    return point.timeout_s if point.timeout_s is not None else profile.connection.response_timeout_s


@dataclass(frozen=True, slots=True)
class SharedEndpoint:
    """Recharge points behind one host and port share its connection, and the manners of the most sensitive of them."""

    host: str
    port: int
    points: tuple[tuple[RechargePoint, Profile], ...]

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def pause_between_requests_s(self) -> float:
        return max(profile.connection.pause_between_requests_s for _, profile in self.points)

    @property
    def pause_after_connect_s(self) -> float:
        return max(profile.connection.pause_after_connect_s for _, profile in self.points)

    @property
    def connect_timeout_s(self) -> float:
        return max(profile.connection.connect_timeout_s for _, profile in self.points)

    @property
    def timeout_s(self) -> float:
        return max(timeout_s(point, profile) for point, profile in self.points)


def shared_endpoints(config: Config, profiles: Mapping[str, Profile]) -> list[SharedEndpoint]:
    """Every Modbus TCP endpoint that is polled, in the order of the configuration."""
    by_address: dict[tuple[str, int], list[tuple[RechargePoint, Profile]]] = {}
    for point in config.recharge_points:
        if point.host is not None and point.is_polled:
            profile = profiles[point.id]
            port, _ = endpoint(point, profile)
            by_address.setdefault((point.host, port), []).append((point, profile))
    return [SharedEndpoint(host, port, tuple(points)) for (host, port), points in by_address.items()]


def plan_for(point: RechargePoint, profile: Profile) -> Plan:
    """What a polled recharge point is asked."""
    return make_plan(profile, connector=point.connector, unit_id=endpoint(point, profile)[1])


class _Loaded:
    """Every profile that a configuration names, each loaded once, and what is wrong with them."""

    def __init__(self, config: Config) -> None:
        self.findings: list[Finding] = []
        self.by_recharge_point: dict[str, Profile] = {}
        self._known: dict[str, Profile | None] = {}
        for index, point in enumerate(config.recharge_points):
            if point.profile is not None and point.is_polled:
                profile = self._load(point.profile, ("recharge_points", index, "profile"))
                if profile is not None:
                    self.by_recharge_point[point.id] = profile
        if config.site.meter is not None:
            self._load(config.site.meter.profile, METER)

    def _load(self, name: str, location: Location) -> Profile | None:
        if name not in self._known:
            try:
                self._known[name] = load_profile(name)
            except UsageError as error:
                self._known[name] = None
                lines = error.mistakes if isinstance(error, ProfileError) else str(error).splitlines()
                self.findings += [Finding(location, line) for line in lines]
        return self._known[name]


def _together(config: Config, profiles: dict[str, Profile]) -> Iterator[Finding]:
    """What only shows once the profiles' defaults are known."""
    seen: dict[tuple[str, int, int, int], int] = {}
    for index, point in enumerate(config.recharge_points):
        at: Location = ("recharge_points", index)
        profile = profiles.get(point.id)
        if profile is None or point.host is None:
            continue
        problem = profile.connection.connector_problem(point.connector)
        if problem is not None:
            what = f"does not exist: {profile.name} {problem}"
            yield Finding((*at, "connector"), what, involved=((*at, "profile"),))
            continue
        device = (point.host.casefold(), *endpoint(point, profile), point.connector)
        first = seen.setdefault(device, index)
        other = config.recharge_points[first]
        if first != index and (point.profile, point.port, point.unit_id) != (other.profile, other.port, other.unit_id):
            yield Finding(  # what is written alike the configuration's own rules have told already
                at,
                f"is the same host, port {device[1]}, unit_id {device[2]} and connector as {other.id}",
                "another connector or unit_id for another outlet",
                (("recharge_points", first),),
            )


def _value(config: Config, location: Location) -> str | None:
    """What stands at a location of the tree, where it is one value."""
    value: object = config
    for part in location:
        value = value[part] if isinstance(value, tuple) and isinstance(part, int) else getattr(value, str(part))
    return shown(value) if isinstance(value, str | int | float) else None
