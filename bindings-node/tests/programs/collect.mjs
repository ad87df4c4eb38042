// Forces garbage collection of what nobody can reach: unreferenced nodes, abandoned
// subscriptions. What somebody listens to, or what keeps the process alive, must stay.
import assert from 'node:assert/strict';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';

import { Cluster, generateSecret } from 'peerage';

const secret = generateSecret();
const quick = {
  cluster: 'collect',
  secret,
  probeInterval: 200,
  probeTimeout: 100,
  indirectTimeout: 200,
  suspicionMin: 1000,
  suspicionMaxFactor: 1,
};
const watcher = await Cluster.start({ ...quick, nodeId: 'watcher' });
const seeds = [watcher.addr];

async function until(what, holds) {
  const deadline = Date.now() + 30_000;
  while (!holds()) {
    assert.ok(Date.now() < deadline, what);
    globalThis.gc();
    await turn();
    await sleep(10);
  }
}

/** Starts a node and keeps nothing of it but what `use` keeps. */
async function start(nodeId, use) {
  const node = await Cluster.start({ ...quick, nodeId, seeds });
  await node.join();
  await use(node);
}

let heard = 0;
let iterated = 0;
await start('dropped', (node) => void node.unref());
await start('dropped with a stream', (node) => {
  node.unref().events();
});
await start('kept by ref', () => {});
await start('kept by a handler', (node) => node.unref().handle('x', () => 'x'));
await start('kept by a listener', (node) => node.unref().on('event', () => (heard += 1)));
await start('kept by an iteration', (node) => {
  const stream = node.unref().events();
  (async () => {
    for await (const event of stream) iterated += Number(event.seq > 0n);
  })();
});
await until('the dropped are gone', () =>
  ['dropped', 'dropped with a stream'].every((id) => watcher.get(id)?.state === 'failed'),
);
for (const member of watcher.members()) {
  if (!member.id.startsWith('dropped')) assert.equal(member.state, 'alive', member.id);
}
assert.equal(String(await watcher.request('kept by a handler', 'x')), 'x');
await until('events are heard', () => heard > 0 && iterated > 0);

for (let i = 0; i < 100; i++) watcher.events();
await until('abandoned streams are gone', () => watcher.stats().subscribers === 0);

// Many calls leave nothing behind.
watcher.handle('echo', (request) => request.payload);
for (let round = 0; round < 20; round++) {
  await Promise.all(Array.from({ length: 50 }, () => watcher.request('watcher', 'echo', 'x')));
  globalThis.gc();
}
assert.equal(watcher.stats().requestsOut, 0);
console.log('collected');
process.exit(0);
