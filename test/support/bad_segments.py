"""Makes TCP segments a receiver must refuse, and the receiver. Owns: what is sent, how often, and saying so
(a line of JSON per kind). Does not own: what becomes of it.

    bad_segments.py serve PORT CONNECTIONS
    bad_segments.py send FROM TO PORT INTERFACE
    bad_segments.py late FROM TO PORT INTERFACE
"""
import json
import os
import select
import socket
import struct
import sys

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
CLOSED = 7412  # nobody listens there
WRONG_CHECKSUM = 0x1234


def serve(port, connections):
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=8)
    print("ready", os.getpid(), flush=True)
    for _ in range(connections):
        peer, _ = server.accept()
        word = peer.recv(1)
        if not word:  # gone before it was its turn
            peer.close()
            continue
        peer.sendall(b"y")
        if word == b"c":  # closed first
            peer.close()
            continue
        poll = select.poll()
        poll.register(peer, select.POLLRDHUP)
        poll.poll()
        if word == b"x":  # else: closed with unread data
            while peer.recv(4096):
                pass
        peer.close()


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Sender:
    def __init__(self, source, target, interface):
        self.family = socket.AF_INET6 if ":" in target else socket.AF_INET
        self.source, self.target, self.interface = source, target, interface
        self.ends = [socket.inet_pton(self.family, end) for end in (source, target)]
        self.raw = socket.socket(self.family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.kind = 0

    def segment(self, sport, dport, seq, ack, flags, data, options=b"", words=None, right=True):
        words = 5 + len(options) // 4 if words is None else words
        head = struct.pack("!HHIIBBHHH", sport, dport, seq % 2**32, ack % 2**32, words << 4, flags, 512, 0, 0)
        tcp = bytearray(head + options + data)
        pseudo = b"".join(self.ends) + struct.pack("!II", len(tcp), socket.IPPROTO_TCP)
        total = checksum(pseudo + bytes(tcp))
        struct.pack_into("!H", tcp, 16, total if right else total ^ WRONG_CHECKSUM)
        return bytes(tcp)

    def packet(self, tcp, fragment=0, protocol=socket.IPPROTO_TCP):
        """The kind's number is in IPv4's identification, and in IPv6's flow label."""
        mark = 0x7000 + self.kind
        if self.family == socket.AF_INET6:
            before = struct.pack("!BBBB", 6, 0, 1, 4) + b"\0" * 4 if protocol == 60 else b""
            return struct.pack("!IHBB", 6 << 28 | mark, len(before + tcp), protocol, 64) + b"".join(self.ends) + before + tcp
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), mark, fragment, 64, protocol, 0) + b"".join(self.ends)
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + tcp

    def say(self, name, count, sport, dport):
        print(json.dumps({"name": name, "kind": 0x7000 + self.kind, "count": count, "sport": sport, "dport": dport}), flush=True)

    def send(self, name, count, sport, dport, *fields, protocol=socket.IPPROTO_TCP, **more):
        self.kind += 1
        packet = self.packet(self.segment(sport, dport, *fields, **more), protocol=protocol)
        for _ in range(count):
            self.raw.sendto(packet, (self.target, 0))
        self.say(name, count, sport, dport)

    def connect(self, port, word):
        """A real connection, and what its next segment would say: sequence, acknowledgement, timestamps."""
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        tap.bind((self.interface, 3))
        tap.settimeout(10)
        peer = socket.create_connection((self.target, port))
        if word:
            peer.sendall(word)
            assert peer.recv(1) == b"y"
        sport = peer.getsockname()[1]
        while True:
            packet = tap.recv(4096)
            tcp = packet[40:] if packet[0] >> 4 == 6 else packet[(packet[0] & 15) * 4 : int.from_bytes(packet[2:4], "big")]
            if len(tcp) < 32 or tcp[:4] != struct.pack("!HH", port, sport):
                continue
            if not word and tcp[13] == SYN | ACK:
                tap.close()
                seq, ack = struct.unpack_from("!II", tcp, 4)
                return peer, sport, ack, seq + 1, 0, 0
            if not word or tcp[32:] != b"y":
                continue
            seq, ack = struct.unpack_from("!II", tcp, 4)
            assert tcp[12] >> 4 == 8 and tcp[20:24] == b"\x01\x01\x08\x0a", "timestamps"
            theirs, ours = struct.unpack_from("!II", tcp, 24)
            tap.close()
            return peer, sport, ack, seq + 1, ours, theirs


def stamps(ours, theirs):
    return struct.pack("!BBBBII", 1, 1, 8, 10, ours % 2**32, theirs % 2**32)


def send(source, target, port, interface):
    sender = Sender(source, target, interface)
    peer, sport, seq, ack, ours, theirs = sender.connect(port, b"x")
    # Ahead: the connection's own acknowledgements, on their way, must not make these old.
    now = stamps(ours + 60000, theirs)
    # The connection's own: each kind another count, so that none passes for another.
    sender.send("checksum", 3, sport, port, seq, ack, ACK | PSH, b"z" * 100, now, right=False)
    sender.send("behind window", 4, sport, port, seq + 2**28, ack, ACK, b"z", now)
    sender.send("old sequence", 5, sport, port, seq - 5000, ack, ACK, b"z", now)
    sender.send("old stamp", 6, sport, port, seq, ack, ACK, b"z", stamps(ours - 10**6, theirs))
    sender.send("reset in window", 7, sport, port, seq + 10, 0, RST, b"")
    sender.send("reset behind window", 8, sport, port, seq + 2**28, 0, RST, b"")
    sender.send("unsent acknowledged", 9, sport, port, seq, ack + 5000, ACK, b"z", now)
    sender.send("syn", 10, sport, port, seq, ack, SYN | ACK, b"", now)
    sender.send("no flags", 11, sport, port, seq, ack, 0, b"z", now)
    sender.send("past options", 2, sport, port, seq + 2**28, ack, ACK, b"z", now, protocol=60 if sender.family == socket.AF_INET6 else 6)
    # Of a connection that waits to be accepted.
    waiting, *place = sender.connect(port, b"")
    sender.send("not accepted", 18, place[0], port, place[1] + 2**28, place[2], ACK, b"z")
    waiting.close()
    # The listener's.
    sender.send("to listener", 12, 41001, port, 1, 1, ACK, b"")
    sender.send("reset to listener", 13, 41002, port, 1, 1, RST, b"")
    # Nobody's.
    sender.send("short checksum", 14, 41003, port, 1, 1, ACK, b"", right=False)
    sender.send("small offset", 15, 41004, port, 1, 1, ACK, b"", words=4)
    sender.send("large offset", 16, 41005, port, 1, 1, ACK, b"", words=15)
    sender.send("closed port", 17, 41006, CLOSED, 1, 1, SYN, b"")
    # Refused by others than TCP: a datagram, a fragment that stays alone, a frame for another machine.
    datagram = socket.socket(sender.family, socket.SOCK_DGRAM)
    for _ in range(3):
        datagram.sendto(b"z", (target, CLOSED))
    sender.kind += 1
    if sender.family == socket.AF_INET:
        segment = sender.segment(41007, port, 1, 1, ACK, b"z" * 44)
        sender.raw.sendto(sender.packet(segment, fragment=0x2000), (target, 0))
    sender.say("fragment", 0, 41007, port)
    sender.kind += 1
    frame = b"\x02\x02\x02\x02\x02\x02" * 2 + (b"\x86\xdd" if sender.family == socket.AF_INET6 else b"\x08\x00")
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    link.bind((interface, 0))
    for _ in range(4):
        link.send(frame + sender.packet(sender.segment(41008, CLOSED, 1, 1, SYN, b"")))
    sender.say("other machine", 0, 41008, CLOSED)
    # An orderly end, and one with data nobody has read.
    peer.shutdown(socket.SHUT_WR)
    assert peer.recv(1) == b""
    peer.close()
    unread, sport, *_ = sender.connect(port, b"u")
    unread.sendall(b"z" * 5000)
    unread.shutdown(socket.SHUT_WR)
    try:
        unread.recv(1)
    except ConnectionResetError:
        pass
    sender.kind += 1
    sender.say("unread", 0, sport, port)


def late(source, target, port, interface):
    """To a connection whose other end has closed first, and waits."""
    sender = Sender(source, target, interface)
    peer, sport, seq, ack, ours, theirs = sender.connect(port, b"c")
    assert peer.recv(1) == b""
    peer.close()
    sender.send("old stamp", 3, sport, port, seq + 1, ack + 1, ACK, b"", stamps(ours - 10**6, theirs))


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]), int(sys.argv[3]))
else:
    {"send": send, "late": late}[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
