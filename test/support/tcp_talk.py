# Both ends of a TCP connection in one process, and what it says of its own clock. Owns: the moment of each write and of each
# read, however it reads. Does not own: what they should be.
#
#   tcp_talk.py ADDRESS STEP...
#
# Steps: write=SIZE[xTIMES], wait=MS, and, by the other end, each 4 ms after the one before, so that no two are one moment:
# read=SIZE, peek=SIZE, trunc=SIZE, waitall=SIZE, splice=SIZE, readv=SIZE. In the end all that is left is read. room=SIZE: of the
# reader's buffer, from the beginning on.
# Prints JSON: ports, the clocks' distance (of several readings the closest), and [bytes so far, CLOCK_MONOTONIC before, after] of each write and read.
import json, os, socket, sys, time

address, steps = sys.argv[1], sys.argv[2:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
listener = socket.socket(family)
for step in steps:
    if step.startswith("room="):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(step[5:]))
listener.bind((address, 0))
listener.listen()
writer = socket.socket(family)
writer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
writer.connect(listener.getsockname())
reader, _ = listener.accept()
now = time.monotonic_ns
writes, reads = [], []


def log(moments, act):
    before = now()
    count = act()
    moments.append([(moments[-1][0] if moments else 0) + count, before, now()])


def write(size):
    writer.sendall(bytes(size))
    return size


def splice(size):
    taken, given = os.pipe()
    count = os.splice(reader.fileno(), given, size, flags=os.SPLICE_F_NONBLOCK)  # as much as the pipe takes
    os.close(taken)
    os.close(given)
    return count


def peek(size):
    reader.recv(size, socket.MSG_PEEK)
    return 0


how = {
    "read": lambda size: len(os.read(reader.fileno(), size)),
    "readv": lambda size: os.readv(reader.fileno(), [bytearray(size // 2), bytearray(size - size // 2)]),
    "trunc": lambda size: reader.recv_into(bytearray(size), size, socket.MSG_TRUNC),
    "waitall": lambda size: len(reader.recv(size, socket.MSG_WAITALL)),
    "splice": splice,
    "peek": peek,
}
for step in steps:
    verb, _, value = step.partition("=")
    if verb == "room":
        continue
    if verb == "wait":
        time.sleep(int(value) / 1000)
    elif verb == "write":
        size, _, times = value.partition("x")
        for _ in range(int(times or 1)):
            log(writes, lambda: write(int(size)))
    else:
        time.sleep(0.004)
        log(reads, lambda: how[verb](int(value)))
while not reads or reads[-1][0] < writes[-1][0]:
    time.sleep(0.004)
    log(reads, lambda: how["read"](1 << 16))
ports = {"writer": writer.getsockname()[1], "reader": reader.getsockname()[1]}
print(json.dumps({**ports, "unix": max(time.time_ns() - now() for _ in range(20)), "writes": writes, "reads": reads}))
