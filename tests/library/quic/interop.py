"""A QUIC peer that is not ours: aioquic. `interop.py server` echoes, `interop.py client PORT` asks our echo."""
import asyncio
import datetime
import ssl
import sys

from aioquic.asyncio import connect, serve
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

SIZE = 300_000


def certificate():
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(hours=1))
    return builder.not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256()), key


async def server():
    config = QuicConfiguration(is_client=False, alpn_protocols=["np-quic"], idle_timeout=15)
    config.certificate, config.private_key = certificate()

    async def echo(reader, writer):
        assert await reader.readexactly(1) == b"\0"
        writer.write(await reader.read())
        writer.write_eof()

    started = await serve("127.0.0.1", 0, configuration=config,
                          stream_handler=lambda *stream: asyncio.ensure_future(echo(*stream)))
    print(started._transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()


async def client(port):
    config = QuicConfiguration(alpn_protocols=["np-quic"], verify_mode=ssl.CERT_NONE, idle_timeout=15)
    data = bytes((at * 7) % 251 for at in range(SIZE))
    async with connect("127.0.0.1", port, configuration=config) as session:
        async def talk():
            reader, writer = await session.create_stream()
            writer.write(b"\0" + data)
            writer.write_eof()
            assert await reader.read() == data
        await asyncio.gather(*[talk() for _ in range(20)])
        # One that is reset, and life goes on.
        reader, writer = await session.create_stream()
        writer.write(b"\0")
        session._quic.reset_stream(writer.get_extra_info("stream_id"), 0)
        await talk()
    print("done", flush=True)


asyncio.run(server() if sys.argv[1] == "server" else client(int(sys.argv[2])))
