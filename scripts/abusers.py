"""Clients that do a server harm, on sockets of their own: what `scripts/abuse` runs beside those that behave.

They speak as a client of the original does, in plain KCP (PROTOCOL.md 2 and 3), and each does one thing wrongly. Each
takes the server's address, and what it is to call once its sessions are there, and goes on until it is ended.
"""

import random
import socket
import struct
import time

PUSH, ACK, WINS = 81, 82, 84
SUB, PUB, PING = 1, 3, 5
HEADER = struct.Struct("<IBBHIIII")
# Bytes of data of a segment, as the original cuts them.
SEGMENT = 1300
# Segments under way before something is acknowledged.
WINDOW = 32
LONGEST = 8 << 20


def frame(command, subject=b"", payload=b""):
    return struct.pack(">IBH", 3 + len(subject) + len(payload), command, len(subject)) + subject + payload


class Peer:
    """A session, as far as its abuser wants it to be one."""

    def __init__(self, server, host="127.0.0.1"):
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.connect(server)
        self.socket.setblocking(False)
        self.conv = random.getrandbits(32) or 1
        self.next = self.una = 0
        self.came = set()
        self.acknowledged = 0
        self.queue = b""
        self.sent = {}

    def segment(self, command, sn=0, data=b"", ts=0, una=None, window=1024):
        una = self.una if una is None else una
        return HEADER.pack(self.conv, command, 0, window, ts, sn & 0xffffffff, una & 0xffffffff, len(data)) + data

    def send(self, *segments):
        try:
            self.socket.send(b"".join(segments))
        except OSError:
            pass  # its buffer is full, or nobody is there any more: it is lost

    def write(self, data):
        """Queues bytes of the stream."""
        self.queue += data

    def flush(self):
        """Sends as much of them as may be under way, and again what was not acknowledged for a while."""
        now = time.monotonic()
        for sn, (data, at) in list(self.sent.items()):
            if now - at > 0.3:
                self.sent[sn] = (data, now)
                self.send(self.segment(PUSH, sn, data))
        while self.queue and len(self.sent) < WINDOW:
            data, self.queue = self.queue[:SEGMENT], self.queue[SEGMENT:]
            self.sent[self.next] = (data, now)
            self.send(self.segment(PUSH, self.next, data))
            self.next += 1

    def read(self, acknowledges=True):
        """Reads what has come. How many segments of data that were."""
        pushes = 0
        while True:
            try:
                datagram = self.socket.recv(65536)
            except OSError:
                return pushes
            acks = []
            while len(datagram) >= HEADER.size:
                conv, command, _, _, ts, sn, una, length = HEADER.unpack_from(datagram)
                datagram = datagram[HEADER.size + length:]
                if conv != self.conv:
                    break
                for known in [known for known in self.sent if known < una or command == ACK and known == sn]:
                    del self.sent[known]
                    self.acknowledged += 1
                if command == PUSH:
                    pushes += 1
                    self.came.add(sn)
                    acks.append((sn, ts))
            if acknowledges:
                while self.una in self.came:
                    self.came.discard(self.una)
                    self.una += 1
                for sn, ts in acks:
                    self.send(self.segment(ACK, sn, ts=ts))

    def open(self, subject=None):
        """Shows that it is there, with a PING, and subscribes."""
        self.write(frame(PING) + (frame(SUB, subject) if subject else b""))
        until = time.monotonic() + 5
        while (self.queue or self.sent or self.una == 0) and time.monotonic() < until:
            self.flush()
            self.read()
            time.sleep(0.001)
        return self


def never_reads(server, ready):
    """A hundred that subscribe to everything and then read nothing any more."""
    peers = [Peer(server).open(b">") for _ in range(100)]
    ready()
    while peers:
        time.sleep(1)


def never_acknowledges(server, ready):
    """A hundred that subscribe to everything and go on sending, and acknowledge nothing, half of them from the beginning."""
    peers = [Peer(server).open(b">") for _ in range(50)]
    for _ in range(50):
        peer = Peer(server)
        peer.write(frame(SUB, b">"))
        peers.append(peer)
    ready()
    while True:
        for peer in peers:
            peer.write(frame(PUB, b"abuse", b"x" * 100))
            peer.flush()
            peer.read(acknowledges=False)
        time.sleep(0.05)


def acknowledges_wrongly(server, ready):
    """Fifty that subscribe to everything and acknowledge what was never sent, long ago, and twice."""
    peers = [Peer(server).open(b">") for _ in range(50)]
    ready()
    while True:
        for peer in peers:
            far = [peer.una + random.randrange(1 << 12), random.getrandbits(32), peer.una - random.randrange(1 << 12)]
            peer.send(*(peer.segment(ACK, sn, ts=random.getrandbits(32), una=random.choice([*far, peer.una]))
                        for sn in far * 10),
                      peer.segment(WINS, window=random.choice([0, 1, 65535])))
            peer.read(acknowledges=random.random() < 0.5)
        time.sleep(0.01)


def byte_a_segment(server, ready):
    """Two hundred that send a byte a segment, as fast as they can, half of them behind a segment that never comes."""
    peers = [Peer(server).open() for _ in range(200)]
    for peer in peers:
        peer.send(peer.segment(PUSH, peer.next, struct.pack(">IBH", LONGEST, PUB, 5) + b"abuse"))
        peer.first = peer.next + 1
    shift = 0
    ready()
    while True:
        for index, peer in enumerate(peers):
            first = peer.first + shift + index % 2
            peer.send(*(peer.segment(PUSH, sn, b"x") for sn in range(first, first + 40)))
            peer.read(acknowledges=False)
        shift = (shift + 40) % 4000


def worst_patterns(server, ready):
    """Sixteen sessions with as many patterns as they can have out of `a` and `*` sixteen times."""
    def patterns(turn):
        for number in range(1 << 16):
            bits = number * 40503 + turn * 7919 & 0xffff
            yield b".".join(b"*" if bits >> place & 1 else b"a" for place in range(16))

    peers = [Peer(server).open() for _ in range(16)]
    for turn, peer in enumerate(peers):
        peer.rest = patterns(turn)
    ready()
    while True:
        for peer in peers:
            if len(peer.queue) < 20_000:
                peer.write(b"".join(frame(SUB, pattern) for _, pattern in zip(range(400), peer.rest)))
            peer.flush()
            peer.read()
        time.sleep(0.001)


def trickle(server, ready):
    """A thousand that each send a frame of 8 MiB, 40 kB of it in a second."""
    peers = [Peer(server, f"127.0.1.{1 + index % 4}") for index in range(1000)]
    for peer in peers:
        peer.write(frame(PING) + struct.pack(">IBH", LONGEST, PUB, 5) + b"abuse")
    ready()
    while True:
        begun = time.monotonic()
        for peer in peers:
            if len(peer.queue) < 40_000:
                peer.write(bytes(40_000))
            peer.flush()
            peer.read()
        time.sleep(max(0, 1 - (time.monotonic() - begun)))


def many_sessions(server, ready):
    """Twenty thousand sessions from five hosts; each shows that it is there and subscribes, and is then silent."""
    for index in range(20_000):
        peer = Peer(server, f"127.0.2.{1 + index % 5}")
        peer.write(frame(PING) + frame(SUB, b"abuse.%d" % index))
        peer.flush()
        until = time.monotonic() + 0.05
        while peer.una == 0 and time.monotonic() < until:
            peer.read()
        peer.socket.close()
    ready()
    while True:
        time.sleep(1)


def garbage(server, ready):
    """Datagrams without end, a hundred from each of many addresses: noise, pieces of sessions that there are not, and the
    beginnings of sessions that nobody goes on with."""
    ready()
    # The start of a frame, as a client's first segment has it, and what no protocol knows.
    begins, number = frame(PING) + frame(SUB, b"abuse"), 0
    while True:
        host = f"127.{random.randrange(3, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        peer = Peer(server, host)
        for _ in range(100):
            number += 1
            peer.conv = random.getrandbits(32) or 1
            kind = number % 4
            if kind == 0:
                peer.send(random.randbytes(random.randrange(1, 1200)))
            elif kind == 1:
                peer.send(peer.segment(ACK, number), peer.segment(PUSH, number, b"x" * 100))
            elif kind == 2:
                peer.send(peer.segment(PUSH, 0, begins))
            else:
                peer.send(peer.segment(PUSH, 0, b"\xff" * 8), random.randbytes(24))
        peer.socket.close()
