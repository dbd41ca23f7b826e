"""Which addresses the front listens on."""

from __future__ import annotations

import ssl
import subprocess

import pytest

from links.raw_mqtt import Broker, RawClient

USAGE = ("-addext", "keyUsage=critical,keyCertSign,digitalSignature")


@pytest.fixture
def certificate(tmp_path):
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem")
    certificate = ("-out", "cert.pem", "-subj", "/CN=localhost", "-days", "2", *USAGE)
    subprocess.run(["openssl", "req", "-x509", *key, *certificate], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "cert.pem"


async def test_with_bind_switched_off_only_tls_bind_listens(certificate):
    tls = {"tls_bind": "127.0.0.1:0", "tls_cert_file": certificate, "tls_key_file": certificate.with_name("key.pem")}
    async with Broker(bind=None, **tls) as broker:
        assert broker.front.port == 0
        assert "on 127.0.0.1:0," in repr(broker.front)
        context = ssl.create_default_context(cafile=certificate)
        context.check_hostname = False
        client = await RawClient.open(broker.front.tls_port, ssl=context)
        assert await client.connect("c") == (0, 0)
        await client.close()
