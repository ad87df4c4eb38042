// Joins, then does not let its event loop run for as long as it is told; leaves when told.
import { Cluster } from 'peerage';

const [seed, secret, milliseconds, unresponsiveAfter] = process.argv.slice(2);
const node = await Cluster.start({
  cluster: 'test',
  nodeId: 'blocked',
  secret,
  seeds: [seed],
  unresponsiveAfter: Number(unresponsiveAfter),
});
await node.join();
let heard = 0;
node.on('event', () => (heard += 1));
let handled = 0;
node.handle('work', () => {
  handled += 1;
  return 'done';
});
const bye = new Promise((resolve) => node.handle('bye', () => resolve()));
await node.setTags({ state: 'blocked' });
const end = performance.now() + Number(milliseconds);
while (performance.now() < end);
// Before it says that it is free, upon which it is asked to leave.
const { requestsIn } = node.stats();
await node.setTags({ state: 'free' });
console.log(JSON.stringify({ heard, handled, requestsIn }));
await bye;
await node.leave();
