// Ends in the way that its argument says, with a live node, an open subscription, a listener, a
// handler and a request under way. What it prints last says how far it came.
import { Cluster, generateSecret } from 'peerage';

const [way] = process.argv.slice(2);
const secret = generateSecret();
const a = await Cluster.start({ cluster: 'exit', nodeId: 'a', secret });
const b = await Cluster.start({ cluster: 'exit', nodeId: 'b', secret, seeds: [a.addr] });
await b.join();
a.handle('never', () => new Promise(() => {}));
a.on('event', () => {});
const stream = b.events();
const listening = (async () => {
  for await (const event of stream) void event;
  console.log('the stream has ended');
})();
if (way !== 'unref' && way !== 'leave') {
  b.request('a', 'never', '', { deadline: 3_600_000 }).catch(() => {});
}

switch (way) {
  case 'exit':
    console.log('exits');
    process.exit(7);
    break;
  case 'exit in a listener':
    b.on('memberUpdated', () => process.exit(7));
    await a.setTags({ x: 'y' });
    break;
  case 'throw':
    console.log('throws');
    setImmediate(() => {
      throw new Error('uncaught on purpose');
    });
    break;
  case 'signal':
    console.log('kills itself');
    process.kill(process.pid, 'SIGTERM');
    break;
  case 'unref':
    a.unref();
    b.unref();
    process.on('exit', () => console.log('ends by itself'));
    break;
  case 'leave':
    await Promise.all([a.leave(), b.leave()]);
    await listening;
    process.on('exit', () => console.log('ends by itself'));
    break;
}
