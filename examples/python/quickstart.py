"""The README's quickstart: two nodes in one process, as a program would embed one each."""

# [quickstart]
import asyncio
import json

from peerage import Cluster, MemberJoined, MemberLeft, Request, generate_secret


async def main() -> None:
    # All nodes of a cluster hold the same secret. Keep it where you keep passwords.
    secret = generate_secret()

    async with Cluster(cluster="quickstart", node_id="alice", secret=secret) as alice:

        @alice.handle("greet")
        async def greet(request: Request) -> str:
            return f"hello {request.from_}, this is alice"

        events = alice.events()

        # Usually another process on another machine; it needs one address to join through.
        async with Cluster(
            cluster="quickstart",
            node_id="bob",
            secret=secret,
            seeds=[alice.addr],
            tags={"role": "guest"},
        ) as bob:
            await bob.join(deadline=5)

            answer = await bob.request("alice", "greet", "hi", deadline=1)
            print("bob heard:", answer.decode())

        async for event in events:
            if isinstance(event, MemberJoined | MemberLeft):
                print("alice saw:", event.kind, event.member.id, json.dumps(event.member.tags))
            if isinstance(event, MemberLeft):
                break


asyncio.run(main())
# [/quickstart]
