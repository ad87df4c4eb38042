// Only workers load the addon here, so it comes and goes with them; each is ended with a live
// node, open subscriptions and requests under way.
import { once } from 'node:events';
import { Worker, isMainThread, parentPort } from 'node:worker_threads';

if (isMainThread) {
  for (let round = 0; round < 5; round++) {
    const workers = [0, 1].map(() => new Worker(new URL(import.meta.url)));
    await Promise.all(workers.map((worker) => once(worker, 'message')));
    if (round % 2 === 0) {
      await Promise.all(workers.map((worker) => worker.terminate()));
    } else {
      workers.forEach((worker) => worker.postMessage('exit'));
      await Promise.all(workers.map((worker) => once(worker, 'exit')));
    }
  }
  console.log('all have ended');
} else {
  const { Cluster, generateSecret } = await import('peerage');
  const secret = generateSecret();
  const a = await Cluster.start({ cluster: 'worker', nodeId: 'a', secret });
  const b = await Cluster.start({ cluster: 'worker', nodeId: 'b', secret, seeds: [a.addr] });
  await b.join();
  a.handle('echo', (request) => request.payload);
  a.handle('never', () => new Promise(() => {}));
  a.on('event', () => {});
  (async () => {
    for await (const event of b.events()) void event;
  })();
  b.request('a', 'never').catch(() => {});
  (async () => {
    for (;;) await b.request('a', 'echo', 'x');
  })().catch(() => {});
  parentPort.on('message', () => process.exit(3));
  await b.request('a', 'echo', 'y');
  parentPort.postMessage('ready');
}
