"""Pass TCP connections from a lab to a service on this machine's loopback.

    python -m lab.forward NETNS ADDRESS:PORT TARGET_ADDRESS:PORT

It listens inside the named network namespace and connects each client to the target in the namespace where it runs.
No link joins the two, so nothing else leaks through. It prints one line when it listens.
"""

import asyncio
import socket
import sys

from lab.machine import inside_netns


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


async def main(netns: str, listen: str, target: str) -> None:
    """Forward for ever."""
    host, port = _split(target)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()  # the service is down: so are we
            return
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        for end in (writer, far_writer):
            end.close()

    with inside_netns(netns):
        sock = socket.create_server(_split(listen))
    server = await asyncio.start_server(serve, sock=sock)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
