"""Opens so many connections to a port, over and over, and says nothing, or garbage, on them: `flood.py ADDRESS PORT COUNT`.
Says so once that many were opened, and at SIGTERM how many of all were established."""

import errno
import os
import resource
import signal
import socket
import sys
import time


# One that was never established is refused instead, or waits for an answer.
RESET = (errno.ECONNRESET, errno.EPIPE)


def was_established(connection: socket.socket) -> bool:
    try:
        connection.getpeername()
        return True
    except OSError:
        return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in RESET


def main():
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = min(count, most - 64)
    connections: list[socket.socket] = []
    number = established = 0
    while not ended:
        number += 1
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex((address, port))
        connections.append(connection)
        if number % 2 and len(connections) > 64:
            try:
                connections[-64].send(os.urandom(512))
            except OSError:
                pass
        if len(connections) >= count:
            oldest = connections.pop(0)
            established += was_established(oldest)
            oldest.close()
        if number == count:
            print("flooding", flush=True)
        # A thousand a second.
        time.sleep(0.001)
    print(established + sum(map(was_established, connections)))


main()
