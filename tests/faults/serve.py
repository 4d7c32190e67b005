"""The web server with the demo's options, on a listening socket with a small send buffer.

Connections inherit the buffer. Without it the kernel takes megabytes before a reader that never reads is noticed.
"""

import socket
import sys

import uvicorn

SEND_BUFFER = 16_384


def main() -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    config = uvicorn.Config(
        "webapp.asgi:application",
        ws="websockets-sansio",
        loop="uvloop",
        ws_per_message_deflate=False,
        ws_max_size=65_536,
        ws_ping_interval=5,
        ws_ping_timeout=8,
        timeout_graceful_shutdown=5,
        log_level="warning",
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
