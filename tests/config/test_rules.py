"""Every rule, with the line it prints. A case is a piece of TOML behind a valid [gateway], and all lines it gives."""

# ruff: noqa: E501 -- lines stand as they are printed

from __future__ import annotations

from collections.abc import Callable

import pytest
from argon2 import PasswordHasher

from evedge.config.rules import overlap

Lines = Callable[..., list[str]]  # what the fixture gives: the lines that a file with this text prints

HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("correct horse")
ID = "1 to 128 of A-Z a-z 0-9 . _ -"
ADDRESS = 'host:port, such as "127.0.0.1:1883" or "[::1]:0"'
POLLED = '[[recharge_points]]\nid = "rp-01"\nhost = "192.0.2.10"\nprofile = "abb-terra-ac"\n'
USER = f'[[mqtt.users]]\nname = "plc-1"\npassword_hash = "{HASH}"\n'

VALUES = {
    "an id with other characters": (
        '[[recharge_points]]\nid = "rp 01"\nagent = "a"\n[mqtt]\nallow_anonymous = true',
        [f'recharge_points[0].id = "rp 01": has other characters, or too many; allowed: {ID}'],
    ),
    "an unknown section": ("[webb]", ["webb: is not a known key; did you mean web?"]),
    "an unknown key like nothing else": (
        "[log]\nzzz = 3",
        ["log.zzz = 3: is not a known key; allowed: level, format"],
    ),
    "a misspelt key": (
        POLLED + "poll_intervall_s = 5",
        ["recharge_points[0].poll_intervall_s = 5: is not a known key; did you mean poll_interval_s?"],
    ),
    "a misspelt key that is required": (
        '[[routes]]\nmqtt_topic = "a"\nkafka_topik = "b"\n[kafka]',
        ['routes[0].kafka_topik = "b": is not a known key; did you mean kafka_topic?'],
    ),
    "text for a number": (
        POLLED + 'port = "502"',
        ['recharge_points[0].port = "502": is not a whole number; allowed: a port from 1 to 65535'],
    ),
    "a number for text": (
        "[log]\nlevel = 3",
        ["log.level = 3: is not known; allowed: debug, info, warning, error"],
    ),
    "text for a truth value": (
        '[mqtt]\nallow_anonymous = "yes"',
        ['mqtt.allow_anonymous = "yes": is not true or false; allowed: true or false'],
    ),
    "a value for a list": (
        '[kafka]\nbootstrap_servers = "a:9092"',
        ['kafka.bootstrap_servers = "a:9092": is not a list; allowed: a list, of each: host:port'],
    ),
    "an empty list of servers": (
        "[kafka]\nbootstrap_servers = []",
        ["kafka.bootstrap_servers = []: is empty; allowed: a list, of each: host:port"],
    ),
    "a server without port": (
        '[kafka]\nbootstrap_servers = ["a:9092", "b"]',
        ['kafka.bootstrap_servers[1] = "b": is not host:port; allowed: host:port'],
    ),
    "not a number": (
        POLLED + "timeout_s = nan",
        ["recharge_points[0].timeout_s = nan: is not a number one can count with; allowed: a number from 0.05 to 600"],
    ),
    "a poll interval of 0": (
        POLLED + "poll_interval_s = 0",
        ["recharge_points[0].poll_interval_s = 0: is too small; allowed: a number from 0.1 to 86400"],
    ),
    "a poll interval of days": (
        POLLED + "poll_interval_s = 86401",
        ["recharge_points[0].poll_interval_s = 86401: is too large; allowed: a number from 0.1 to 86400"],
    ),
    "a negative timeout": (
        POLLED + "timeout_s = -1",
        ["recharge_points[0].timeout_s = -1: is too small; allowed: a number from 0.05 to 600"],
    ),
    "a connector of 0": (
        POLLED + "connector = 0",
        ["recharge_points[0].connector = 0: is too small; allowed: a whole number from 1 to 255"],
    ),
    "a unit id of 256": (
        POLLED + "unit_id = 256",
        ["recharge_points[0].unit_id = 256: is too large; allowed: a whole number from 0 to 255"],
    ),
    "a limit of 0 A": (
        POLLED + "max_current_a = 0",
        ["recharge_points[0].max_current_a = 0: is too small; allowed: a number above 0 and up to 1000"],
    ),
    "phases named twice": (
        POLLED + 'phases = "L1L1L2"',
        [
            (
                'recharge_points[0].phases = "L1L1L2": does not name different phases;'
                " allowed: an order of phases, such as L1L2L3, L2L3L1 or L1"
            )
        ],
    ),
    "an unknown on_lapse": (
        POLLED + 'on_lapse = "drop"',
        ['recharge_points[0].on_lapse = "drop": is not known; allowed: fallback, hold, pause'],
    ),
    "a host with a port": (
        '[[recharge_points]]\nid = "a"\nhost = "192.0.2.1:502"\nprofile = "p"',
        [
            (
                'recharge_points[0].host = "192.0.2.1:502": has a port in it: give it by its own key;'
                " allowed: a host name or an IP address"
            )
        ],
    ),
    "a host that is an impossible IP address": (
        '[[recharge_points]]\nid = "a"\nhost = "192.0.2.300"\nprofile = "p"',
        ['recharge_points[0].host = "192.0.2.300": is no IP address; allowed: a host name or an IP address'],
    ),
    "bind without a port": (
        '[mqtt]\nbind = "127.0.0.1"',
        [f'mqtt.bind = "127.0.0.1": is not host:port; allowed: {ADDRESS}'],
    ),
    "bind with IPv6 without brackets": (
        '[mqtt]\nbind = "::1:1883"',
        [f'mqtt.bind = "::1:1883": is an IPv6 address without brackets, or has no port; allowed: {ADDRESS}'],
    ),
    "bind with a port too high": (
        '[mqtt]\nbind = "127.0.0.1:70000"',
        [f'mqtt.bind = "127.0.0.1:70000": has a port above 65535; allowed: {ADDRESS}'],
    ),
    "bind without a host": (
        '[web]\nbind = ":8080"',
        [f'web.bind = ":8080": has a host that is empty; allowed: {ADDRESS}'],
    ),
    "a journal below 1 MiB": (
        "[journal]\nmax_bytes = 1048575",
        ["journal.max_bytes = 1048575: is too small; allowed: a whole number from 1048576 to 1125899906842624"],
    ),
    "an unknown when_full": (
        '[journal]\nwhen_full = "explode"',
        ['journal.when_full = "explode": is not known; allowed: block, drop_oldest'],
    ),
    "an unknown log format": (
        '[log]\nformat = "xml"',
        ['log.format = "xml": is not known; allowed: auto, console, json'],
    ),
    "a negative lease": (
        "[commands]\ndefault_lease_s = -1",
        ["commands.default_lease_s = -1: is too small; allowed: a whole number from 0 to 31622400"],
    ),
    "an issuer's key that is short": (
        '[[commands.issuers]]\nname = "a"\npublic_key = "AAAA"',
        [
            (
                'commands.issuers[0].public_key = "AAAA": is not 32 bytes long;'
                " allowed: an Ed25519 public key: 32 bytes in base64"
            )
        ],
    ),
    "an issuer's key that is no base64": (
        '[[commands.issuers]]\nname = "a"\npublic_key = "!"',
        ['commands.issuers[0].public_key = "!": is not base64; allowed: an Ed25519 public key: 32 bytes in base64'],
    ),
    "an unknown purpose and action": (
        '[[commands.issuers]]\nname = "a"\npurposes = ["fun"]\nactions = ["explode"]',
        [
            'commands.issuers[0].purposes[0] = "fun": is not known; allowed: grid, site, market, user',
            (
                'commands.issuers[0].actions[0] = "explode": is not known; allowed: set_current_limit, set_power_limit,'
                " pause, resume, write, ping, reload, set_site_limit, set_log_level"
            ),
        ],
    ),
    "a meter without a profile": (
        '[site]\nmeter = { host = "192.0.2.20" }',
        ["site.meter.profile: is missing; allowed: one line of text"],
    ),
    "a topic prefix with a wildcard": (
        '[mqtt]\ntopic_prefix = "a/+"',
        ['mqtt.topic_prefix = "a/+": holds a wildcard; allowed: MQTT topic levels, such as evedge or plant/evedge'],
    ),
    "a route's filter and topic": (
        '[kafka]\n[[routes]]\nmqtt_topic = "a/#/b"\nkafka_topic = "a b"',
        [
            (
                'routes[0].mqtt_topic = "a/#/b": has # elsewhere than alone at its end;'
                " allowed: an MQTT topic filter, such as factory/+/energy"
            ),
            'routes[0].kafka_topic = "a b": has other characters, or too many; allowed: 1 to 249 of A-Z a-z 0-9 . _ -',
        ],
    ),
    "a user's filter": (
        USER + 'publish = ["ok/#", "a+"]',
        [
            (
                'mqtt.users[0].publish[1] = "a+": has + beside other characters of a level;'
                " allowed: an MQTT topic filter, such as factory/+/energy"
            )
        ],
    ),
    "a user's name": (
        f'[[mqtt.users]]\nname = "a/b"\npassword_hash = "{HASH}"',
        [
            (
                'mqtt.users[0].name = "a/b": has characters that cannot stand in an MQTT topic level;'
                " allowed: 1 to 128 characters other than / + #"
            )
        ],
    ),
    "an unknown placeholder in a topic": (
        '[kafka.topics]\ncommands = "c.{site}"',
        [
            (
                'kafka.topics.commands = "c.{site}": has a placeholder other than {gateway};'
                " allowed: 1 to 249 of A-Z a-z 0-9 . _ -, and {gateway} for the gateway's id"
            )
        ],
    ),
    "a broker's URL of another kind": (
        '[mqtt]\nurl = "http://a"',
        [
            (
                'mqtt.url = "http://a": does not begin with mqtt:// or mqtts://;'
                " allowed: mqtt://host[:port] or mqtts://host[:port]"
            )
        ],
    ),
    "a broker's URL with a password": (
        '[mqtt]\nurl = "mqtts://plc:hunter2@a"',
        [
            (
                "mqtt.url: has a user in it: give username and password by their own keys;"
                " allowed: mqtt://host[:port] or mqtts://host[:port]"
            )
        ],
    ),
    "a key that TOML has to quote": (
        '[log]\n"a b" = 1',
        ['log."a b" = 1: is not a known key; allowed: level, format'],
    ),
    "a value with control characters": (
        '[log]\nlevel = "\\u001b[31m\\n"',
        ['log.level = "\\u001b[31m\\n": is not known; allowed: debug, info, warning, error'],
    ),
}

ONE_SHAPE = "a topic of its own: one topic, one shape"
BETWEEN = {
    "recharge points with one id": (
        POLLED + '[[recharge_points]]\nid = "rp-01"\nhost = "192.0.2.11"\nprofile = "p"',
        ['recharge_points[1].id = "rp-01": is used twice, recharge_points[0] has it too'],
    ),
    "one device twice": (
        POLLED + POLLED.replace("rp-01", "rp-02"),
        [
            (
                "recharge_points[1]: is the same host, port, unit_id and connector as rp-01;"
                " allowed: another connector or unit_id for another outlet"
            )
        ],
    ),
    "two outlets of one device": (POLLED + POLLED.replace("rp-01", "rp-02") + "connector = 2", []),
    "neither polled nor owned": (
        '[[recharge_points]]\nid = "rp-01"',
        ["recharge_points[0]: is neither polled nor owned by an agent; allowed: host and profile, or agent"],
    ),
    "polled without a host": (
        '[[recharge_points]]\nid = "rp-01"\nprofile = "p"',
        ["recharge_points[0].host: is missing; allowed: a host name or an IP address"],
    ),
    "polled without a profile": (
        '[[recharge_points]]\nid = "rp-01"\nhost = "h"',
        ["recharge_points[0].profile: is missing; allowed: a built-in name (`evedge profiles` lists them) or a path"],
    ),
    "polled and owned": (
        POLLED + 'agent = "plc-1"\ntimeout_s = 1\n' + USER,
        [
            f"recharge_points[0].{key}: has no meaning with agent: the agent polls this recharge point"
            for key in ('host = "192.0.2.10"', 'profile = "abb-terra-ac"', "timeout_s = 1")
        ],
    ),
    "an agent that is no user": (
        '[[recharge_points]]\nid = "rp-01"\nagent = "plc-2"\n' + USER,
        ['recharge_points[0].agent = "plc-2": is no user; allowed: a name in [[mqtt.users]]'],
    ),
    "an agent's own configuration with an agent": (
        '[mqtt]\nurl = "mqtt://g"\n[[recharge_points]]\nid = "rp-01"\nagent = "plc-2"',
        [
            (
                'recharge_points[0].agent = "plc-2": stands in an agent\'s own configuration ([mqtt] url without [kafka]);'
                " allowed: host and profile: an agent polls its recharge points itself"
            )
        ],
    ),
    "a minimum above the maximum": (
        POLLED + "min_current_a = 20\nmax_current_a = 16",
        ["recharge_points[0].min_current_a = 20: is above max_current_a; allowed: at most 16"],
    ),
    "a fallback below the minimum": (
        POLLED + "min_current_a = 6\nfallback_current_a = 3",
        ["recharge_points[0].fallback_current_a = 3: is below min_current_a; allowed: 0, or at least 6"],
    ),
    "a fallback above the maximum": (
        POLLED + "max_current_a = 16\nfallback_current_a = 20",
        ["recharge_points[0].fallback_current_a = 20: is above max_current_a; allowed: at most 16"],
    ),
    "a fallback that pauses": (POLLED + "min_current_a = 6\nfallback_current_a = 0", []),
    "anonymous clients from elsewhere": (
        '[mqtt]\nbind = "0.0.0.0:1883"\nallow_anonymous = true',
        [
            (
                "mqtt.allow_anonymous = true: lets anyone who reaches bind = 0.0.0.0:1883 publish and subscribe to"
                " everything; allowed: a loopback address; allow_anonymous_from_anywhere = true forces it"
            )
        ],
    ),
    "anonymous clients from elsewhere, forced": (
        '[mqtt]\nbind = "0.0.0.0:1883"\nallow_anonymous = true\nallow_anonymous_from_anywhere = true',
        [],
    ),
    "anonymous clients on this machine": ('[mqtt]\nbind = "[::1]:1883"\nallow_anonymous = true', []),
    "bind beside url": (
        '[mqtt]\nbind = "127.0.0.1:1883"\nurl = "mqtt://g"',
        [
            (
                'mqtt.bind = "127.0.0.1:1883": stands beside url;'
                " allowed: bind for a broker in this process, or url for one elsewhere"
            )
        ],
    ),
    "users and tls_bind beside url": (
        '[mqtt]\nurl = "mqtt://g"\ntls_bind = "127.0.0.1:0"\n' + USER,
        [
            f"mqtt.{key}: has no meaning with url: it is for a broker in this process"
            for key in ("users", 'tls_bind = "127.0.0.1:0"')
        ],
    ),
    "a client's keys without url": (
        '[mqtt]\nusername = "u"\npassword = "hunter2"\nclient_id = "c"',
        [
            f"mqtt.{key}: needs url: it is for a broker elsewhere"
            for key in ('username = "u"', "password", 'client_id = "c"')
        ],
    ),
    "a password without a username": (
        '[mqtt]\nurl = "mqtts://g"\npassword = "hunter2"',
        ["mqtt.password: needs username beside it"],
    ),
    "no way in": (
        '[mqtt]\nbind = ""',
        ['mqtt.bind = "": is switched off, and so is tls_bind; allowed: an address in bind, tls_bind or url'],
    ),
    "two listeners on one address": (
        '[mqtt]\nbind = "127.0.0.1:8080"',
        ["web.bind: is the address of mqtt.bind too"],
    ),
    "tls_bind without a certificate": (
        '[mqtt]\ntls_bind = "127.0.0.1:8883"',
        ['mqtt.tls_bind = "127.0.0.1:8883": needs tls_cert_file and tls_key_file'],
    ),
    "users of one name": (USER + USER, ['mqtt.users[1].name = "plc-1": is used twice, mqtt.users[0] has it too']),
    "a user who cannot log in": (
        '[[mqtt.users]]\nname = "a"',
        ["mqtt.users[0]: cannot log in; allowed: password_hash or tls_common_name"],
    ),
    "a user with a password for a hash": (
        '[[mqtt.users]]\nname = "a"\npassword_hash = "hunter2"',
        [
            (
                "mqtt.users[0].password_hash: is not an argon2 hash: `evedge hash-password` makes one;"
                " allowed: $argon2id$v=19$m=…,t=…,p=…$…$…"
            )
        ],
    ),
    "a hash that would take the machine's memory": (
        f'[[mqtt.users]]\nname = "a"\npassword_hash = "{HASH.replace("m=8,", "m=99999999,")}"',
        [
            (
                "mqtt.users[0].password_hash: is an argon2 hash with costs out of range: `evedge hash-password` makes one;"
                " allowed: $argon2id$v=19$m=…,t=…,p=…$…$…"
            )
        ],
    ),
    "a common name without an authority": (
        '[[mqtt.users]]\nname = "a"\ntls_common_name = "a"',
        ['mqtt.users[0].tls_common_name = "a": needs [mqtt] tls_bind and tls_client_ca_file'],
    ),
    "SASL keys without SASL": (
        '[kafka]\nsasl_username = "u"\nsasl_password = "hunter2"',
        [
            f"kafka.{key}: has no meaning with security_protocol = PLAINTEXT;"
            " allowed: security_protocol = SASL_SSL or SASL_PLAINTEXT"
            for key in ('sasl_username = "u"', "sasl_password")
        ],
    ),
    "SASL without a mechanism": (
        '[kafka]\nsecurity_protocol = "SASL_SSL"',
        ["kafka.sasl_mechanism: is missing; allowed: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER"],
    ),
    "PLAIN without a login": (
        '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"',
        ["kafka.sasl_username: is missing for PLAIN", "kafka.sasl_password: is missing for PLAIN"],
    ),
    "a token with a user name": (
        (
            '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "OAUTHBEARER"\nsasl_username = "u"\n'
            'sasl_password = "t"'
        ),
        ['kafka.sasl_username = "u": has no meaning with OAUTHBEARER without sasl_token_url'],
    ),
    "a login by token without one": (
        '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "OAUTHBEARER"',
        [
            (
                "kafka.sasl_password: is missing for OAUTHBEARER: the token, best in sasl_password_file, read again at"
                " each login"
            )
        ],
    ),
    "a token's endpoint without a client, and not encrypted": (
        (
            '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "OAUTHBEARER"\n'
            'sasl_token_url = "http://login.example/token"\nsasl_extensions = ["auth=x"]'
        ),
        [
            (
                'kafka.sasl_token_url = "http://login.example/token": does not begin with https://;'
                " allowed: https://host/path"
            ),
            (
                'kafka.sasl_extensions[0] = "auth=x": is not of the form name=value;'
                " allowed: logicalCluster=lkc-abcdef and the like"
            ),
        ],
    ),
    "a token's endpoint for a password": (
        (
            '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\nsasl_username = "u"\n'
            'sasl_password = "p"\nsasl_token_url = "https://login.example/token"'
        ),
        [
            (
                'kafka.sasl_token_url = "https://login.example/token": is for OAUTHBEARER only;'
                ' allowed: sasl_mechanism = "OAUTHBEARER"'
            )
        ],
    ),
    "a scope of no endpoint": (
        (
            '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "OAUTHBEARER"\nsasl_password = "t"\n'
            'sasl_token_scope = "s"'
        ),
        ['kafka.sasl_token_scope = "s": needs sasl_token_url'],
    ),
    "a mechanism nobody knows": (
        '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "ROT13"',
        ['kafka.sasl_mechanism = "ROT13": is not known; allowed: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER'],
    ),
    "one topic for two streams": (
        '[kafka.topics]\nalerts = "evedge.telemetry"',
        [f'kafka.topics.alerts = "evedge.telemetry": is the topic of kafka.topics.telemetry too; allowed: {ONE_SHAPE}'],
    ),
    "topics that only a placeholder kept apart": (
        '[kafka.topics]\nalerts = "x.{gateway}"\nstatus = "x.site_042"',
        [],
    ),
    "topics that are one once the gateway's id is in them": (
        '[kafka.topics]\nalerts = "x.{gateway}"\nstatus = "x_site-042"',
        [f'kafka.topics.status = "x_site-042": is the topic of kafka.topics.alerts too; allowed: {ONE_SHAPE}'],
    ),
    "a route to a stream's topic": (
        '[kafka]\n[[routes]]\nmqtt_topic = "a"\nkafka_topic = "evedge.telemetry"',
        [
            (
                'routes[0].kafka_topic = "evedge.telemetry": is the topic of kafka.topics.telemetry too;'
                " allowed: another topic: one topic, one shape"
            )
        ],
    ),
    "a route without Kafka": (
        '[[routes]]\nmqtt_topic = "a"\nkafka_topic = "b"',
        ["routes[0]: needs [kafka]: there is nothing to forward to"],
    ),
    "a route's key beyond the wildcards": (
        '[kafka]\n[[routes]]\nmqtt_topic = "a/+"\nkafka_topic = "b"\nkey = "{2}"',
        ['routes[0].key = "{2}": names {2}, but the topic filter has 1 wildcards'],
    ),
    "a route over the gateway's own topics": (
        '[kafka]\n[[routes]]\nmqtt_topic = "evedge/+/rp/#"\nkafka_topic = "b"',
        [
            (
                'routes[0].mqtt_topic = "evedge/+/rp/#": takes the gateway\'s own topic evedge/site-042/rp/+/status, which'
                " goes to Kafka already; allowed: other topics"
            )
        ],
    ),
    "a route for all other topics": ('[kafka]\n[[routes]]\nmqtt_topic = "#"\nkafka_topic = "b"', []),
    "a route beside the gateway's own topics": (
        '[kafka]\n[[routes]]\nmqtt_topic = "evedge/site-042/weather"\nkafka_topic = "b"',
        [],
    ),
    "issuers of one name": (
        '[[commands.issuers]]\nname = "a"\n[[commands.issuers]]\nname = "a"',
        ['commands.issuers[1].name = "a": is used twice, commands.issuers[0] has it too'],
    ),
    "a journal smaller than a message": (
        "[journal]\nmax_bytes = 1048576\n[mqtt]\nmax_packet_bytes = 2000000",
        [
            (
                "journal.max_bytes = 1048576: is smaller than one message of mqtt.max_packet_bytes;"
                " allowed: at least 2000000"
            )
        ],
    ),
}


@pytest.mark.parametrize(("text", "expected"), VALUES.values(), ids=VALUES)
def test_a_value_that_is_wrong_by_itself_gives_this_line(text: str, expected: list[str], lines: Lines) -> None:
    assert lines(text) == expected


@pytest.mark.parametrize("text", ['kafka = "hunter2"\n', 'kafka = ["hunter2"]\n', "kafka = 3\n"])
def test_what_stands_where_a_table_belongs_is_not_shown(text: str, lines: Lines) -> None:
    assert lines('[gateway]\nid = "a"', start=text)[0].startswith("kafka: is not a table")


@pytest.mark.parametrize(("text", "expected"), BETWEEN.values(), ids=BETWEEN)
def test_values_that_do_not_fit_together_give_this_line(text: str, expected: list[str], lines: Lines) -> None:
    assert lines(text) == expected


def test_all_mistakes_come_at_once_those_between_values_too(lines: Lines) -> None:
    text = f"""
        [log]
        level = "loud"
        [mqtt]
        max_clients = 0
        allow_anonymous = true
        bind = "0.0.0.0:1883"
        {POLLED}
        poll_interval_s = 0
        [[recharge_points]]
        id = "rp-02"
        profil = "p"
        [[recharge_points]]
        id = 3
        [[recharge_points]]
        id = "rp-01"
        host = "192.0.2.10"
        profile = "abb-terra-ac"
    """
    starts = [line.split(":")[0] for line in lines(text)]
    assert starts == [
        "mqtt.max_clients = 0",
        "mqtt.allow_anonymous = true",
        "recharge_points[0].poll_interval_s = 0",
        'recharge_points[1].profil = "p"',
        "recharge_points[2].id = 3",
        'recharge_points[3].id = "rp-01"',
        "recharge_points[3]",
        'log.level = "loud"',
    ]


def test_a_rule_says_nothing_about_values_that_are_wrong_already(lines: Lines) -> None:
    text = '[kafka]\nsecurity_protocol = "SASL"\nsasl_username = "u"'
    assert lines(text) == [
        'kafka.security_protocol = "SASL": is not known; allowed: PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL'
    ]


def test_nothing_but_the_id_is_needed(lines: Lines) -> None:
    assert lines("") == []
    assert lines("", start="") == [f"gateway.id: is missing; allowed: {ID}"]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/+", "+/b", True),
        ("#", "a/b", True),
        ("a/#", "a", True),
        ("a", "a/#", True),
        ("a/b/#", "a/+", True),
        ("a/b", "a", False),
        ("a/+", "b/+", False),
        ("a/+/c", "a/#", True),
        ("a/b/c", "a/+/d", False),
    ],
)
def test_filters_overlap_where_one_topic_matches_both(one: str, other: str, *, expected: bool) -> None:
    assert overlap(one, other) is expected
    assert overlap(other, one) is expected
