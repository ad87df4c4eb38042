// An agent in JavaScript: one node, ordered and asked as `src/report.rs` says, whose event loop
// blocks when it is told to.
import { createInterface } from 'node:readline';

import { Cluster } from 'peerage';

let cluster;

const orders = {
  async start({ id, listen, seeds }) {
    const secret = process.env.PEERAGE_SECRET;
    try {
      cluster = await Cluster.start({ cluster: 'faults', nodeId: id, listen, seeds, secret });
      say({ type: 'started', node: id, addr: cluster.addr });
    } catch (error) {
      say({ type: 'not_started', node: id, error: String(error) });
    }
  },

  view() {
    const members = cluster.members();
    const there = members.filter((member) => member.state === 'alive');
    const others = members.filter((member) => member.state !== 'alive');
    say({
      type: 'view',
      node: cluster.local.id,
      alive: there.length,
      others: others.map((member) => [member.id, member.state]),
      unresponsive: members.filter((member) => member.unresponsive).map((member) => member.id),
    });
  },

  block({ ms }) {
    const began = performance.now();
    // No callback of JavaScript's runs meanwhile. It burns no processor, which others need.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
    const blocked_ms = Math.round(performance.now() - began);
    say({ type: 'blocked', node: cluster.local.id, blocked_ms });
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { type, ...order } = JSON.parse(line);
  await orders[type](order);
}
// Whoever gave the orders is gone; the node ends with the process, without a goodbye.
process.exit(0);

function say(report) {
  process.stdout.write(`${JSON.stringify(report)}\n`);
}
