"""An exchange on Python's `websockets`: subscribe, unsubscribe, requests and pushes in JSON.

Prints `listening PORT`, and `closed CODE` for every connection that ends. Runs until it is killed.
"""

import asyncio
import json
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

TICK_SECONDS = 0.01


async def push(socket, topics):
    """Feeds the topics of one connection, each numbered from 1."""
    while True:
        await asyncio.sleep(TICK_SECONDS)
        for topic in sorted(topics):
            if topic in topics:
                topics[topic] += 1
                await socket.send(json.dumps({"topic": topic, "data": topics[topic]}))


def answer(request, topics):
    """The reply to one request, or None."""
    op, args, id = request.get("op"), request.get("args", []), request.get("id")
    if op == "subscribe":
        topics.update((topic, 0) for topic in args)
        return {"id": id, "result": "subscribed"}
    if op == "unsubscribe":
        for topic in args:
            topics.pop(topic, None)
        return {"id": id, "result": "unsubscribed"}
    if op == "echo":
        return {"id": id, "result": request.get("value")}
    if op == "topics":
        return {"id": id, "result": sorted(topics)}
    if op == "hold":
        return None
    return {"id": id, "error": f"unknown operation {op}"}


async def exchange(socket):
    """One connection, to its end."""
    topics = {}
    feed = asyncio.create_task(push(socket, topics))
    try:
        async for text in socket:
            request = json.loads(text)
            if request.get("op") == "leave":
                await socket.close(request["code"], request["reason"])
                break
            reply = answer(request, topics)
            if reply is not None:
                await socket.send(json.dumps(reply))
    except ConnectionClosed:
        pass
    finally:
        feed.cancel()
        print("closed", socket.close_code, flush=True)


async def main(port):
    # Pings often, and drops who doesn't answer in time.
    async with serve(exchange, "127.0.0.1", port, ping_interval=0.1, ping_timeout=5) as server:
        print("listening", server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
