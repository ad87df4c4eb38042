// A node alone keeps the process alive, until it ends; a request does so after unref().
import { Cluster, generateSecret } from 'peerage';

const secret = generateSecret();
const node = await Cluster.start({ cluster: 'stays', nodeId: 'node', secret });
let alive = true;
node.handle('later', () => new Promise((resolve) => setTimeout(resolve, 300, 'done').unref()));
process.on('exit', () => console.log(alive ? 'ended too early' : 'ended in time'));
// Nothing but the node keeps us alive until this timer, which does not.
setTimeout(() => {
  node.unref();
  node.request('node', 'later').then(async (answer) => {
    console.log(`answer: ${answer}`);
    node.ref();
    setTimeout(async () => {
      alive = false;
      await node.leave();
      console.log('has left');
    }, 200).unref();
  });
}, 200).unref();
