// The README's streams: two nodes in one process, as a program would embed one each.

// [quickstart]
import { Cluster, generateSecret } from 'peerage';

const secret = generateSecret();
const worker = await Cluster.start({ cluster: 'streams', nodeId: 'worker', secret });
worker.handleStreams('upper', async (stream) => {
  for await (const chunk of stream) await stream.write(chunk.toString().toUpperCase());
  await stream.finish();
});

const client = await Cluster.start({
  cluster: 'streams',
  nodeId: 'client',
  secret,
  seeds: [worker.addr],
});
await client.join({ deadline: 5000 });

const stream = await client.openStream('worker', 'upper', { deadline: 1000 });
await stream.write('hello');
await stream.finish();
for await (const chunk of stream) console.log(`client read: ${chunk}`);

await client.leave();
await worker.leave();
// [/quickstart]
