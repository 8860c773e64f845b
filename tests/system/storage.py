"""S3 on this machine: moto's server behind a proxy that can be told to answer 503."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterable
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3

from tests.system.nodes import BIN, free_ports

BUCKET = "codelm"
START_SECONDS = 300.0
HOP_BY_HOP = frozenset({"content-length", "transfer-encoding", "connection", "expect"})
KEYS = {"AWS_ACCESS_KEY_ID": "several", "AWS_SECRET_ACCESS_KEY": "planted-5c21-storage", "AWS_REGION": "us-east-1"}


class Storage:
    """An S3 server with one bucket.

    Attributes:
        environment: for whoever is to reach it.
        down: whether it answers 503 to everything.
        refused: requests that were answered so.
        client: of boto3, for tests to look inside.
    """

    def __init__(self, directory: Path, host: str) -> None:
        """Start it.

        Args:
            directory: for its log.
            host: the address to listen at.
        """
        (self._behind,) = free_ports(1)
        (port,) = free_ports(1, host)
        self.down = False
        self.refused = 0
        with (directory / "s3.log").open("wb") as log:
            self._server = subprocess.Popen([BIN / "moto_server", "-p", str(self._behind)], stdout=log, stderr=log)
        wait_for_port("127.0.0.1", self._behind)
        self._proxy = ThreadingHTTPServer((host, port), self._handler())
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        self.environment = {
            **KEYS,
            "AWS_DEFAULT_REGION": KEYS["AWS_REGION"],
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self._behind}",  # what tests ask for is not refused
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name=KEYS["AWS_REGION"],
        )
        self.client.create_bucket(Bucket=BUCKET)

    def keys(self, prefix: str) -> list[str]:
        """The names of all objects below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        """An object's content."""
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def copy(self, prefixes: Iterable[str], one: str, other: str) -> None:
        """Copy what is below `one/PREFIX/` to `other/PREFIX/`."""
        for prefix in prefixes:
            for key in self.keys(f"{one}/{prefix}/"):
                self.client.copy({"Bucket": BUCKET, "Key": key}, BUCKET, other + key.removeprefix(one))

    def close(self) -> None:
        """End it."""
        self._proxy.shutdown()
        self._proxy.server_close()
        self._server.terminate()
        self._server.wait()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        storage = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                body = self._body()
                if storage.down:
                    storage.refused += 1
                    self.send_response(503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                connection = HTTPConnection("127.0.0.1", storage._behind, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
                connection.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
                answer = connection.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in HOP_BY_HOP | {"date", "server"}:
                        self.send_header(name, value)
                size = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
                self.send_header("Content-Length", size or "0")
                self.end_headers()
                self.wfile.write(content)
                connection.close()

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return body

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def wait_for_port(host: str, port: int) -> None:
    """Wait until something listens."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"nothing listens at {host}:{port}"
            time.sleep(0.2)
