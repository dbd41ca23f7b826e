"""A real Apache Kafka for the tests: one KRaft node, started with java from jars that Maven resolves once.

The jars lie in `.cache/kafka/` (ignored by git). Where java or mvn is missing, `missing()` says which; the fixture
skips with that reason, or fails where the environment variable CI is set. Listeners, all on loopback:

- `bootstrap`: without login, as superuser;
- `sasl_bootstrap`: SASL_PLAINTEXT; PLAIN (user `gateway`, password `secret`), SCRAM, OAUTHBEARER with unsigned tokens;
- `cloud_bootstrap`: the same over TLS (SASL_SSL), as a managed Kafka has it;
- `certificate_bootstrap`: TLS where the client's certificate is its login (SSL).

What is not allowed to a user by an ACL is forbidden; `gateway` may do everything until it is denied. `add_user` makes
SCRAM users, `allow` grants rights. Topics are not created by themselves.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from kafka_certificates import Authority

KAFKA_VERSION = "4.1.2"
CACHE = Path(__file__).parents[1] / ".cache" / "kafka"
START_TIMEOUT_S = 40.0
STOP_TIMEOUT_S = 20.0

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>evedge</groupId><artifactId>kafka-for-tests</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""

_PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={listeners}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CLOUD:SASL_SSL,CERTIFICATE:SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
{logins}
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
listener.name.certificate.ssl.client.auth=required
connections.max.reauth.ms=3600000
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=false
log.dirs={directory}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
"""

_LOGINS = """
listener.name.{name}.plain.sasl.jaas.config=\
 org.apache.kafka.common.security.plain.PlainLoginModule required user_gateway="secret";
listener.name.{name}.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.{name}.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.{name}.oauthbearer.sasl.jaas.config=\
 org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
"""


def missing() -> str | None:
    """What this machine lacks to run Kafka; None when nothing."""
    lacking = [program for program in ("java", "mvn") if shutil.which(program) is None]
    if lacking and _jars_there():
        lacking = [program for program in lacking if program == "java"]
    return f"a real Kafka needs {' and '.join(lacking)} on the path" if lacking else None


def _jars_there() -> bool:
    return (CACHE / KAFKA_VERSION).is_dir()


def resolve_jars() -> Path:
    """The folder of jars; half a minute and 54 MB the first time, nothing after. Two test runs at once share it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    jars = CACHE / KAFKA_VERSION
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.is_dir():
            pom = CACHE / "pom.xml"
            pom.write_text(_POM)
            unfinished = CACHE / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            subprocess.run(
                ["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={unfinished}"],
                check=True,
                timeout=600,
            )
            unfinished.rename(jars)
    return jars


class RealKafka:
    """One broker as a child process. `start` after `stop` or `kill` finds its data again, on the same ports."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._jars = resolve_jars()
        self._process: subprocess.Popen[bytes] | None = None
        plain, sasl, cloud, certificate, controller = _free_ports(5)
        self.bootstrap = f"127.0.0.1:{plain}"
        self.sasl_bootstrap = f"127.0.0.1:{sasl}"
        self.cloud_bootstrap = f"127.0.0.1:{cloud}"
        self.certificate_bootstrap = f"127.0.0.1:{certificate}"
        self.authority = Authority(directory / "tls")
        """Signs the brokers' certificates and is trusted for those of clients."""
        listeners = {"PLAINTEXT": plain, "SASL": sasl, "CLOUD": cloud, "CERTIFICATE": certificate}
        self._properties = directory / "server.properties"
        self._properties.write_text(
            _PROPERTIES.format(
                listeners=",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items()),
                controller=controller,
                logins="".join(_LOGINS.format(name=name) for name in ("sasl", "cloud")),
                keystore=self.authority.sign("broker").both,
                truststore=self.authority.certificate,
                directory=directory,
            )
        )
        self._furnished = False
        self._log = directory / "kafka.log"
        self._java(
            "kafka.tools.StorageTool", "format", "-t", "ZXZlZGdlLXRlc3RzLWFiYw", "-c", str(self._properties)
        ).wait(START_TIMEOUT_S)

    def _java(self, main: str, *arguments: str) -> subprocess.Popen[bytes]:
        # C1 and the serial collector: a broker that lives for a minute starts faster and disturbs its neighbours less.
        options = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                ["java", *options, "-cp", f"{self._jars}/*", main, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
            )

    def start(self) -> None:
        """Returns when the broker serves; 3 to 5 s."""
        if self._process is not None:
            return
        before = self._log.stat().st_size
        self._process = self._java("kafka.Kafka", str(self._properties))
        deadline = time.monotonic() + START_TIMEOUT_S
        while b"Kafka Server started" not in self._new_log(before):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"Kafka did not start:\n{self._new_log(before).decode(errors='replace')[-3000:]}")
            time.sleep(0.05)
        if not self._furnished:
            self._furnished = True
            everything = (ResourceType.TOPIC, ResourceType.GROUP)
            self.allow("User:gateway", *((kind, "*", AclOperation.ALL) for kind in everything))

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap})

    def add_user(self, name: str, password: str, mechanism: str = "SCRAM-SHA-512") -> None:
        """A user who may nothing yet; its principal is `User:<name>`. Again: another password."""
        scram = ScramMechanism.SCRAM_SHA_256 if mechanism.endswith("256") else ScramMechanism.SCRAM_SHA_512
        upsertion = UserScramCredentialUpsertion(name, ScramCredentialInfo(scram, 4096), password.encode())
        admin = self._admin()  # held: its futures end with it
        for future in admin.alter_user_scram_credentials([upsertion]).values():
            future.result(10)

    def allow(self, principal: str, *rights: tuple[ResourceType, str, AclOperation], pattern: str = "LITERAL") -> None:
        """Grants rights; Kafka's controller applies them within some milliseconds."""
        found = [
            AclBinding(kind, name, ResourcePatternType[pattern], principal, "*", operation, AclPermissionType.ALLOW)
            for kind, name, operation in rights
        ]
        admin = self._admin()
        for future in admin.create_acls(found).values():
            future.result(10)

    def logins_refused(self) -> int:
        """How many logins the running and former brokers have refused: each writes a line."""
        return self._log.read_bytes().count(b"Failed authentication with")

    def _new_log(self, before: int) -> bytes:
        with self._log.open("rb") as log:
            log.seek(before)
            return log.read()

    def stop(self) -> None:
        """A clean stop; a paused broker is resumed for it."""
        if self._process is not None:
            self.resume()
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: the kernel still takes connections and bytes, nobody answers. Returns when every thread stands."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while not self._stands(self._process.pid):
            assert time.monotonic() < deadline, "Kafka does not stop"
            time.sleep(0.001)

    @staticmethod
    def _stands(pid: int) -> bool:
        """Whether the kernel calls all of a process' threads stopped; a busy machine takes a while over it."""
        tasks = Path(f"/proc/{pid}/task")
        if not tasks.is_dir():
            return True  # nothing to look at: not Linux
        try:
            stats = [(task / "stat").read_text() for task in tasks.iterdir()]
        except (FileNotFoundError, ProcessLookupError):
            return False  # a thread that ended meanwhile
        return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @property
    def running(self) -> bool:
        return self._process is not None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def must_not_skip() -> bool:
    """In CI a missing part fails; elsewhere it skips."""
    return bool(os.environ.get("CI"))
