"""The authenticated handshake by another hand: docs/protocol.md with PyPI's noiseprotocol, in both roles, pool type 0.

    noise_peer.py client PORT KEY    joins a server as its egress
    noise_peer.py server PORT KEY    waits for a client that is the ingress, tls=0

Either way it is the target as well: it answers users in capitals. It ends when its tunnel does.
"""

import base64
import hashlib
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

from noise.connection import NoiseConnection

PROLOGUE = b"nodepass auth 1"


def noise(key):
    connection = NoiseConnection.from_name(b"Noise_NNpsk0_25519_ChaChaPoly_SHA256")
    connection.set_psks(hashlib.pbkdf2_hmac("sha256", key, PROLOGUE, 65536))
    connection.set_prologue(PROLOGUE)
    return connection


class Session:
    """What both sides say after the handshake."""

    def __init__(self, connection):
        self.send, self.receive = (
            connection.noise_protocol.cipher_state_encrypt,
            connection.noise_protocol.cipher_state_decrypt,
        )
        self.lock, self.number, self.last = threading.Lock(), 0, -1

    def seal(self, text):
        with self.lock:
            number, self.number = self.number, self.number + 1
            self.send.n = number
            return number.to_bytes(8, "big"), self.send.encrypt_with_ad(b"", text)

    def unseal(self, number, sealed):
        self.receive.n = int.from_bytes(number, "big")
        return self.receive.decrypt_with_ad(b"", sealed)

    def line(self, signal):
        number, sealed = self.seal(json.dumps(signal, separators=(",", ":")).encode())
        return base64.b64encode(number + sealed) + b"\n"

    def signal(self, line):
        sealed = base64.b64decode(line.strip(), validate=True)
        number = int.from_bytes(sealed[:8], "big")
        assert number > self.last, "numbers rise"
        self.last = number
        return json.loads(self.unseal(sealed[:8], sealed[8:]))


def exactly(stream, count):
    got = b""
    while len(got) < count:
        piece = stream.recv(count - len(got))
        if not piece:
            raise EOFError
        got += piece
    return got


def head(stream):
    text = b""
    while not text.endswith(b"\r\n\r\n"):
        text += exactly(stream, 1)
    return text.decode()


def capitals(stream):
    """A user: what is said comes back in capitals."""
    try:
        while piece := stream.recv(65536):
            stream.sendall(piece.upper())
        stream.close()
    except OSError:
        pass


def control(stream, session, launched):
    """Reads signals until the end of the tunnel."""
    stream.sendall(session.line({"action": "ping"}))
    print("up", flush=True)
    for line in stream.makefile("rb"):
        signal = session.signal(line)
        if signal["action"] == "ping":
            stream.sendall(session.line({"action": "pong"}))
        elif signal["action"] == "tcp":
            launched(signal["id"])


def client(port, key):
    context, plain = ssl.create_default_context(), ssl.create_default_context()
    for each in (context, plain):
        each.check_hostname, each.verify_mode, each.minimum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_3

    connection = noise(key)
    connection.set_as_initiator()
    connection.start_handshake()
    message = base64.b64encode(connection.write_message(b'{"features":[],"version":"python"}')).decode()
    context.set_alpn_protocols(["http/1.1"])
    stream = context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
    stream.sendall(f"GET / HTTP/1.1\r\nHost: none\r\nNodePass-Auth: 1 {message}\r\nConnection: close\r\n\r\n".encode())
    answer = b""
    while piece := stream.recv(65536):
        answer += piece
    first, _, body = answer.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200"), first
    agreement = json.loads(connection.read_message(base64.b64decode(json.loads(body)["auth"])))
    assert agreement["flow"] == "-" and agreement["type"] == "0", agreement
    session, secure = Session(connection), agreement["tls"] != "0"
    pool, changed = {}, threading.Condition()

    def pooled():
        stream = socket.create_connection(("127.0.0.1", port))
        if secure:
            stream = plain.wrap_socket(stream)
            leaf = hashlib.sha256(stream.getpeercert(True)).digest()
            assert agreement["fp"] == "sha256:" + ":".join(f"{byte:02X}" for byte in leaf), agreement["fp"]
        number, tag = session.seal(b"")
        stream.sendall(b"\0" + bytes.fromhex(agreement["session"]) + number + tag)
        return exactly(stream, 4).hex(), stream

    number, carrier = pooled()
    assert number == "00000000", number

    def more():
        for _ in range(4):
            number, stream = pooled()
            with changed:
                pool[number] = stream
                changed.notify_all()

    def launched(number):
        with changed:
            assert changed.wait_for(lambda: number in pool, 10), number
        threading.Thread(target=capitals, args=(pool[number],), daemon=True).start()

    threading.Thread(target=more, daemon=True).start()
    control(carrier, session, launched)


def server(port, key):
    folder = tempfile.mkdtemp()
    pem, own = os.path.join(folder, "pem"), os.path.join(folder, "key")
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run([*make, "-subj", "/CN=x", "-out", pem, "-keyout", own], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, own)
    context.set_alpn_protocols(["http/1.1"])
    listener = socket.create_server(("127.0.0.1", port))
    print("listening", flush=True)
    session, ids, pool = None, [b"\0\0\0\0"], {}
    while True:
        stream, _ = listener.accept()
        if stream.recv(1, socket.MSG_PEEK) == b"\x16":
            stream = context.wrap_socket(stream, server_side=True)
            lines = head(stream).split("\r\n")
            assert lines[0] == "GET / HTTP/1.1" and not any(line.startswith("Authorization") for line in lines), lines
            message = next(line for line in lines if line.startswith("NodePass-Auth: 1 ")).rsplit(" ", 1)[1]
            connection = noise(key)
            connection.set_as_responder()
            connection.start_handshake()
            hello = json.loads(connection.read_message(base64.b64decode(message)))
            assert "udp-frame" in hello["features"], hello
            terms = b'{"flow":"+","max":8,"tls":"0","type":"0","session":"0badcafe"}'
            body = json.dumps({"auth": base64.b64encode(connection.write_message(terms)).decode()})
            stream.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
            session, used = Session(connection), set()
            stream.close()
            continue
        opening = exactly(stream, 29)
        assert opening[:5] == b"\0\x0b\xad\xca\xfe" and opening[5:13] not in used, opening.hex()
        used.add(opening[5:13])
        assert session.unseal(opening[5:13], opening[13:]) == b""
        number = os.urandom(4) if pool or not ids else ids.pop()
        # A user may be on the way as soon as the client knows the number.
        pool[number.hex()] = stream
        stream.sendall(number)
        if number == b"\0\0\0\0":
            user = lambda number: threading.Thread(target=capitals, args=(pool[number],), daemon=True).start()
            carrier = threading.Thread(target=lambda stream=stream: (control(stream, session, user), os._exit(0)))
            carrier.start()


if __name__ == "__main__":
    role, port, key = sys.argv[1:]
    {"client": client, "server": server}[role](int(port), key.encode())
