// Starts and ends nodes one after another, holding on to them: nothing of the system may be left,
// on Linux where it can be counted.
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { Cluster, generateSecret } from 'peerage';

const secret = generateSecret();
const config = { cluster: 'restarts', nodeId: 'node', secret };
const count = (what) => readdirSync(`/proc/self/${what}`).length;
const held = [];

async function round() {
  const node = await Cluster.start(config);
  const stream = node.events();
  node.on('event', () => {});
  node.handle('x', () => 'x');
  await node.request('node', 'x');
  await (held.length % 2 === 0 ? node.leave() : node.shutdownNow());
  for await (const event of stream) void event;
  held.push(node);
}

await round();
await sleep(100); // the threads of the first runtime end behind our back
const before = [count('fd'), count('task')];
for (let i = 0; i < 20; i++) await round();
const deadline = Date.now() + 20_000;
while (count('fd') > before[0] || count('task') > before[1]) {
  if (Date.now() > deadline) {
    throw new Error(`before: ${before}, now: ${[count('fd'), count('task')]}`);
  }
  await sleep(10);
}
console.log(`${held.length} have ended`);
