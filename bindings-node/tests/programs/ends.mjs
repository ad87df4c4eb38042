// Waits for nothing but the end of what a node tells, after it has ended, again and again.
import { Cluster, generateSecret } from 'peerage';

const secret = generateSecret();
const rounds = Number(process.argv[2]);
for (let round = 0; round < rounds; round++) {
  const node = await Cluster.start({ cluster: 'test', nodeId: `n${round}`, secret });
  const stream = node.events();
  const closed = new Promise((resolve) => node.on('closed', resolve));
  const ended = (async () => {
    for await (const event of stream) void event;
  })();
  const late = node.events();
  await node.shutdownNow();
  await closed;
  await ended;
  for await (const event of late) void event;
}
console.log(rounds);
