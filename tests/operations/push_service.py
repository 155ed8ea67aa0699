"""A browser's half of Web Push, with another library's primitives than the product's, and a push service."""

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tradingbot.operations.webpush import to_base64url


class Browser:
    """Who subscribed: it alone can read what is sent to its endpoint."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._private = ec.generate_private_key(ec.SECP256R1())
        self._public = self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self._secret = secrets.token_bytes(16)
        self.p256dh, self.auth = to_base64url(self._public), to_base64url(self._secret)

    @property
    def subscription(self) -> str:
        """What `PushSubscription.toJSON()` gives."""
        keys = {"p256dh": self.p256dh, "auth": self.auth}
        return json.dumps({"endpoint": self.endpoint, "expirationTime": None, "keys": keys})

    def decrypt(self, sealed: bytes) -> bytes:
        """RFC 8291 from the receiver's side."""
        salt, sender, body = sealed[:16], sealed[21:86], sealed[86:]
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender)
        shared = self._private.exchange(ec.ECDH(), point)
        keying = _derive(shared, self._secret, b"WebPush: info\x00" + self._public + sender, 32)
        key = _derive(keying, salt, b"Content-Encoding: aes128gcm\x00", 16)
        nonce = _derive(keying, salt, b"Content-Encoding: nonce\x00", 12)
        padded = AESGCM(key).decrypt(nonce, body, None)
        return padded.rstrip(b"\x00").removesuffix(b"\x02")


def _derive(secret: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=size, salt=salt, info=info).derive(secret)


class Sink:
    """A real HTTP server on loopback that keeps what is posted to it and answers as it is told."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 201
        self.headers: dict[str, str] = {}
        self.may_answer = threading.Event()
        self.may_answer.set()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                sink.received.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                sink.may_answer.wait(30)
                self.send_response(sink.status)
                for name, value in sink.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def json(self) -> list[dict[str, Any]]:
        """The bodies, read as JSON."""
        return [json.loads(body) for _, _, body in self.received]


@contextmanager
def running_sink() -> Iterator[Sink]:
    """A sink from start to end."""
    sink = Sink()
    sink._thread.start()
    try:
        yield sink
    finally:
        sink.may_answer.set()
        sink._server.shutdown()
        sink._server.server_close()
        sink._thread.join(10)
