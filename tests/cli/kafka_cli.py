"""A configuration for the commands that talk to Kafka, and how they are run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def configuration(folder: Path, bootstrap: str, prefix: str) -> Path:
    """Every topic has a name of its own, so that tests share a Kafka."""
    streams = (
        "telemetry",
        "alerts",
        "status",
        "gateway_telemetry",
        "gateway_status",
        "command_results",
        "dead_letters",
    )
    topics = "\n".join(f'{stream} = "{prefix}.{stream}"' for stream in streams)
    path = folder / "evedge.toml"
    path.write_text(f"""
[gateway]
id = "site-042"
state_dir = "{folder}"
[mqtt]
bind = "127.0.0.1:0"
[kafka]
bootstrap_servers = ["{bootstrap}"]
[kafka.topics]
{topics}
commands = "{prefix}.commands.{{gateway}}"
[[routes]]
mqtt_topic = "factory/+/energy"
kafka_topic = "{prefix}.factory"
""")
    return path


def evedge(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "evedge", *arguments], capture_output=True, text=True, timeout=30, env={}
    )
