// The README's quickstart: two nodes in one process, as a program would embed one each.

// [quickstart]
import { Cluster, generateSecret } from 'peerage';

// All nodes of a cluster hold the same secret. Keep it where you keep passwords.
const secret = generateSecret();

const alice = await Cluster.start({ cluster: 'quickstart', nodeId: 'alice', secret });
alice.handle('greet', (request) => `hello ${request.from}, this is alice`);
const events = alice.events();

// Usually another process on another machine; it needs one address to join through.
const bob = await Cluster.start({
  cluster: 'quickstart',
  nodeId: 'bob',
  secret,
  seeds: [alice.addr],
  tags: { role: 'guest' },
});
await bob.join({ deadline: 5000 });

const answer = await bob.request('alice', 'greet', 'hi', { deadline: 1000 });
console.log(`bob heard: ${answer}`);

await bob.leave();
for await (const event of events) {
  if ('member' in event) {
    console.log(`alice saw: ${event.kind} ${event.member.id} ${JSON.stringify(event.member.tags)}`);
  }
  if (event.kind === 'MemberLeft') break;
}
await alice.leave();
// [/quickstart]
