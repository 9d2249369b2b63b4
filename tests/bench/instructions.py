"""Instructions and system calls of both ends of a tunnel, for each load: see scripts/instructions.sh.

    for each binary:  for each way:  valgrind, all loads; strace, all loads
    load:             warm up | count from here | load | to here

One worker each, so that the same is done in the same order; the reports are far apart.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

WAYS = {
    "single": None,
    "tunnel": "tls=0",
    "tls": "tls=1",
    "ws": "tls=1&type=2",
    "h2": "tls=1&type=3",
    "quic": "tls=1&type=1",
}


class Target:
    """What all ways lead to: it does what the first byte of a connection says, and sends datagrams back.

    'D' and a count: sends so many bytes    'U' and a count: takes so many, then says one    'E': sends back what comes
    """

    def __init__(self):
        self.tcp = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        widen(self.udp)
        threading.Thread(target=self.accept, daemon=True).start()
        threading.Thread(target=self.answer, daemon=True).start()

    def accept(self):
        while True:
            threading.Thread(target=serve, args=(self.tcp.accept()[0],), daemon=True).start()

    def answer(self):
        while True:
            packet, user = self.udp.recvfrom(65536)
            self.udp.sendto(packet, user)


def serve(user):
    block = bytes(BLOCK)
    with user, contextlib.suppress(OSError, EOFError):
        while word := user.recv(1):
            if word == b"E":
                while came := user.recv(BLOCK):
                    user.sendall(came)
                return
            left = struct.unpack("!Q", take(user, 8))[0]
            if word == b"U":
                take(user, left)
                user.sendall(b"u")
                continue
            while left:
                count = min(left, BLOCK)
                user.sendall(block[:count])
                left -= count


def take(stream, count):
    """So many bytes; the last 8 of them at most are kept."""
    last, room = b"", bytearray(BLOCK)
    while count:
        came = stream.recv_into(room, min(count, BLOCK))
        if not came:
            raise EOFError("the stream ended too early")
        last = (last + room[max(0, came - 8) : came])[-8:]
        count -= came
    return last


def widen(udp):
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)


class Loads:
    """What is done through a way; each yields once, after its warm-up, and answers how often its unit was there."""

    def __init__(self, door):
        self.door = ("127.0.0.1", door)

    def user(self):
        for count in (5, 100):
            for _ in range(count):
                self.visit()
            yield count

    def visit(self):
        with socket.create_connection(self.door, timeout=LIMIT) as user:
            user.sendall(b"E" + bytes(99))
            if len(take(user, 99)) < 8:
                raise EOFError("no answer")
            user.shutdown(socket.SHUT_WR)
            if user.recv(1):
                raise EOFError("more than was said")

    def down(self):
        with socket.create_connection(self.door, timeout=LIMIT) as user:
            for megabytes in (8, 32):
                user.sendall(b"D" + struct.pack("!Q", megabytes * MEGA))
                take(user, megabytes * MEGA)
                yield megabytes

    def up(self):
        block = bytes(MEGA)
        with socket.create_connection(self.door, timeout=LIMIT) as user:
            for megabytes in (8, 32):
                user.sendall(b"U" + struct.pack("!Q", megabytes * MEGA))
                for _ in range(megabytes):
                    user.sendall(block)
                take(user, 1)
                yield megabytes

    def burst(self):
        yield from self.echoes(1200, 32, (4, 40))

    def lone(self):
        yield from self.echoes(64, 1, (20, 300))

    def echoes(self, size, together, counts):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as user:
            widen(user)
            user.settimeout(LIMIT)
            user.connect(self.door)
            for count in counts:
                for _ in range(count):
                    for _ in range(together):
                        user.send(bytes(size))
                    for _ in range(together):
                        user.recv(65536)
                yield count * together


class Running:
    """The processes of a way, which end with it."""

    def __init__(self, binary, way, target, wrap):
        self.door, tunnel = port(), port()
        if WAYS[way] is None:
            urls = {"client": f"client://127.0.0.1:{self.door}/127.0.0.1:{target}?mode=1&log=none"}
        else:
            urls = {
                "server": f"server://cost@127.0.0.1:{tunnel}/127.0.0.1:{self.door}?mode=1&{WAYS[way]}&log=none",
                "client": f"client://cost@127.0.0.1:{tunnel}/127.0.0.1:{target}?mode=2&min=8&log=none",
            }
        self.parts = {}
        environment = os.environ | ENVIRONMENT
        for name, url in urls.items():
            # A program that finds a key in its arguments begins anew, without valgrind.
            quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
            part = subprocess.Popen(wrap(name) + [binary, "-"], stdin=pipe, stdout=quiet, stderr=quiet, env=environment)
            part.stdin.write(url.encode())
            part.stdin.close()
            self.parts[name] = part

    def ready(self):
        until = time.monotonic() + LIMIT
        while True:
            try:
                Loads(self.door).visit()
                break
            except (OSError, EOFError):
                if time.monotonic() > until or any(part.poll() is not None for part in self.parts.values()):
                    raise
                time.sleep(0.1)
        self.rest()

    def rest(self):
        """Waits until no descriptor was opened or closed for a while: a pool has been filled."""
        last, since = None, time.monotonic()
        while time.monotonic() < since + REST:
            now = [len(os.listdir(f"/proc/{part.pid}/fd")) for part in self.parts.values()]
            if now != last:
                last, since = now, time.monotonic()
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for part in self.parts.values():
            part.kill()
            part.wait()


class Instructions:
    """A dump names what was done since the one before it."""

    def __init__(self, folder):
        self.folder, self.dumps = folder, 0

    def wrap(self, name):
        out = os.path.join(self.folder, name)
        # Each dump says all names anew, so that it can be read without those before it.
        names = ["--compress-strings=no", "--compress-pos=no"]
        return ["valgrind", "--tool=callgrind", "-q", *names, f"--callgrind-out-file={out}"]

    def begin(self, running):
        self.dump(running, None)

    def end(self, running, load):
        return self.dump(running, load)

    def dump(self, running, load):
        self.dumps += 1
        return {name: self.dump_one(part.pid, name, load) for name, part in running.parts.items()}

    def dump_one(self, pid, name, load):
        done = subprocess.run(["vgdb", f"--pid={pid}", "dump"], capture_output=True, text=True)
        file = os.path.join(self.folder, f"{name}.{self.dumps}")
        if not os.path.exists(file):
            raise OSError(f"callgrind has written nothing: {done.stdout}{done.stderr}")
        with open(file) as lines:
            count = next(int(line.split()[1]) for line in lines if line.startswith(("summary:", "totals:")))
        if load:
            os.rename(file, os.path.join(self.folder, f"{load}.{name}"))
        else:
            os.remove(file)
        return count


class Calls:
    """A tracer is there from the beginning of a load to its end."""

    def __init__(self, folder):
        self.folder, self.tracers = folder, {}

    def wrap(self, _):
        return []

    def begin(self, running):
        for name, part in running.parts.items():
            command = ["strace", "-c", "-f", "-U", "calls,name", "-o", os.path.join(self.folder, name), "-p", str(part.pid)]
            self.tracers[name] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for name, tracer in self.tracers.items():
            threads = len(os.listdir(f"/proc/{running.parts[name].pid}/task"))
            while not re.search(rf"with {threads} threads|attached", tracer.stderr.readline()):
                pass

    def end(self, running, load):
        counts = {}
        for name, tracer in self.tracers.items():
            tracer.send_signal(signal.SIGINT)
            tracer.communicate()
            file = os.path.join(self.folder, name)
            with open(file) as lines:
                total = [line.split() for line in lines if line.split()[1:] == ["total"]]
            counts[name] = int(total[0][0]) if total else 0
            os.rename(file, os.path.join(self.folder, f"{load}.{name}.calls"))
        return counts


def measure(binary, way, loads, folder):
    """For each load and each process: instructions and system calls for each unit."""
    costs = {}
    target = Target()
    for counter in (Instructions(folder), Calls(folder)):
        with Running(binary, way, target.port, counter.wrap) as running:
            running.ready()
            for load in loads:
                steps = getattr(Loads(running.door), load)()
                next(steps)
                running.rest()
                counter.begin(running)
                units = next(steps)
                if load == "user":
                    running.rest()
                for name, count in counter.end(running, load).items():
                    costs.setdefault(load, {}).setdefault(name, []).append(count / units)
                steps.close()
        print(f"instructions: {binary}, {way}: {type(counter).__name__.lower()} counted", file=sys.stderr)
    return costs


def main():
    words = argparse.ArgumentParser()
    words.add_argument("--ways", default=",".join(WAYS))
    words.add_argument("--loads", default=",".join(UNITS))
    words.add_argument("--keep")
    words.add_argument("--short", action="store_true")
    words.add_argument("binaries", nargs="+")
    words = words.parse_args()
    ways, loads = words.ways.split(","), words.loads.split(",")
    for kind, given, known in (("way", ways, WAYS), ("load", loads, UNITS)):
        if unknown := set(given) - set(known):
            sys.exit(f"instructions: unknown {kind} {unknown.pop()}: one of {', '.join(known)}")
    if missing := [program for program in ("valgrind", "vgdb", "strace") if not shutil.which(program)]:
        sys.exit(f"instructions: {missing[0]} is not here: install it")
    work = words.keep or tempfile.mkdtemp()
    try:
        (short_table if words.short else table)(words.binaries, ways, loads, work)
    finally:
        if not words.keep:
            shutil.rmtree(work)


def table(binaries, ways, loads, work):
    heads = ["way", "load", "instructions, server", "client", "system calls, server", "client"]
    if len(binaries) > 1:
        heads = ["way", "load"]
        for what in ("instructions", "system calls"):
            heads += [f"{what}, {number}" for number in range(1, len(binaries) + 1)] + ["last / first"]
    print("| " + " | ".join(heads) + " |\n| --- | --- |" + " ---: |" * (len(heads) - 2))
    for way in ways:
        costs = []
        for number, binary in enumerate(binaries):
            folder = os.path.join(work, f"{way}.{number}")
            os.makedirs(folder, exist_ok=True)
            costs.append(measure(os.path.realpath(binary), way, loads, folder))
        for load in loads:
            print("| " + " | ".join([way, UNITS[load]] + cells([cost[load] for cost in costs])) + " |", flush=True)


def short_table(binaries, ways, loads, work):
    """Of one binary: a row for each way, and in it thousands of instructions and system calls of both processes."""
    print("| way | " + " | ".join(UNITS[load] for load in loads) + " |\n| --- |" + " ---: |" * len(loads))
    for way in ways:
        folder = os.path.join(work, way)
        os.makedirs(folder, exist_ok=True)
        costs = measure(os.path.realpath(binaries[0]), way, loads, folder)
        sums = [[sum(part[kind] for part in costs[load].values()) for kind in (0, 1)] for load in loads]
        print(f"| {way} | " + " | ".join(f"{figure(count / 1000)}; {figure(calls)}" for count, calls in sums) + " |", flush=True)


def cells(costs):
    """Of one row: both processes of one binary, or their sums for several and the ratio."""
    if len(costs) == 1:
        parts = [costs[0].get(name) for name in ("server", "client")]
        return [figure(part[kind]) if part else "-" for kind in (0, 1) for part in parts]
    row = []
    for kind in (0, 1):
        sums = [sum(part[kind] for part in cost.values()) for cost in costs]
        row += [figure(one) for one in sums] + [f"{sums[-1] / max(sums[0], 0.001):.2f}"]
    return row


def figure(value):
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.1f}"


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


UNITS = {
    "down": "a MB from the target",
    "up": "a MB to the target",
    "user": "a user: 100 bytes there and back",
    "burst": "a datagram of 1200 bytes and its echo, 32 together",
    "lone": "a datagram of 64 bytes and its echo, alone",
}
# One worker, no reports, and copies that count as the moves they are: to valgrind a repeated string instruction is one for each byte.
ENVIRONMENT = {
    "NP_WORKERS": "1",
    "NP_REPORT_INTERVAL": "600s",
    "NP_HANDSHAKE_TIMEOUT": "60s",
    "GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000",
}
MEGA = 1_000_000
# Bytes of a read and a write.
BLOCK = 256 * 1024
# Seconds that anything may take.
LIMIT = 60
# Seconds without a change: at rest.
REST = 1.0

if __name__ == "__main__":
    main()
