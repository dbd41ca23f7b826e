"""Where configuration and register maps meet."""

from __future__ import annotations

from pathlib import Path

import pytest

from evedge.config import Config, ConfigError, load, parse
from evedge.config.mistakes import Data
from evedge.config_profiles import (
    endpoint,
    meter_profile,
    poll_interval_s,
    profile_rule,
    resolve_profiles,
    timeout_s,
)

POINT: dict[str, Data] = {"id": "rp-01", "host": "192.0.2.10", "profile": "abb-terra-ac"}


def config(*points: dict[str, Data], **sections: Data) -> Config:
    return parse({"gateway": {"id": "a"}, "recharge_points": list(points), **sections})


def mistakes(given: Config) -> list[str]:
    with pytest.raises(ConfigError) as error:
        resolve_profiles(given)
    return str(error.value).splitlines()


def test_every_polled_recharge_point_gets_its_profile() -> None:
    owned: dict[str, Data] = {"id": "rp-07", "agent": "plc-1"}
    profiles = resolve_profiles(config(POINT, owned, mqtt={"allow_anonymous": True}))
    assert list(profiles) == ["rp-01"]
    assert profiles["rp-01"].name == "abb-terra-ac"


def test_an_unknown_profile_is_a_mistake_of_its_key_and_told_once() -> None:
    wrong = POINT | {"profile": "abb-tera-ac"}
    (line,) = mistakes(config(wrong, wrong | {"id": "rp-02", "host": "192.0.2.11"}))
    assert line.startswith('recharge_points[0].profile = "abb-tera-ac": there is no profile ')
    assert "abb-terra-ac" in line


def test_a_meters_unknown_profile_is_a_mistake_too() -> None:
    given = config(site={"meter": {"host": "192.0.2.20", "profile": "no-such-meter"}})
    assert [line.split(":")[0] for line in mistakes(given)] == ['site.meter.profile = "no-such-meter"']
    assert meter_profile(config()) is None


def test_a_connector_that_the_device_lacks_is_a_mistake() -> None:
    assert mistakes(config(POINT | {"connector": 2})) == [
        "recharge_points[0].connector = 2: does not exist: abb-terra-ac has one connector, 1"
    ]


def test_one_device_written_in_two_ways_is_a_mistake() -> None:
    profile = resolve_profiles(config(POINT))["rp-01"]
    port, unit_id = profile.connection.port, profile.connection.unit_id
    assert mistakes(config(POINT, POINT | {"id": "rp-02", "port": port})) == [
        (
            f"recharge_points[1]: is the same host, port {port}, unit_id {unit_id} and connector as rp-01;"
            " allowed: another connector or unit_id for another outlet"
        )
    ]


def test_what_is_not_given_is_the_profiles() -> None:
    given = config(POINT, POINT | {"id": "rp-02", "port": 5020, "unit_id": 7, "poll_interval_s": 0.5, "timeout_s": 1})
    profiles = resolve_profiles(given)
    first, second = given.recharge_points
    profile = profiles["rp-01"]
    assert endpoint(first, profile) == (profile.connection.port, profile.connection.unit_id)
    assert poll_interval_s(first, profile) == max(1.0, profile.connection.poll_interval_s)
    assert timeout_s(first, profile) == profile.connection.response_timeout_s
    assert endpoint(second, profile) == (5020, 7)
    assert (poll_interval_s(second, profile), timeout_s(second, profile)) == (0.5, 1)


def test_as_a_rule_profiles_are_told_together_with_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "evedge.toml"
    path.write_text(
        '[gateway]\nid = "a"\n[log]\nlevel = "loud"\n'
        '[[recharge_points]]\nhost = "h"\nprofile = "abb-terra-ac"\n'  # no id: left out, the next keeps its number
        '[[recharge_points]]\nid = "rp-02"\nhost = "192.0.2.10"\nprofile = "mine/wallbox.toml"\n'
    )
    with pytest.raises(ConfigError) as error:
        load(path, {}, rules=[profile_rule])
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == [
        "recharge_points[0].id",
        f'recharge_points[1].profile = "{tmp_path}/mine/wallbox.toml"',
        'log.level = "loud"',
    ]


def test_a_profile_file_with_mistakes_gives_a_line_for_each(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("zzz = 1\n")
    lines = mistakes(config(POINT | {"profile": str(tmp_path / "mine.toml")}))
    assert lines
    assert all(line.startswith("recharge_points[0].profile = ") for line in lines)
