// What every node of the example takes: its command line, the cluster secret from the
// environment, and orders.
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';

/** How long a node tries to join before it gives up, in milliseconds. */
export const JOIN_DEADLINE = 30_000;

/** The configuration that the command line and the environment say. */
export function nodeConfig() {
  const { values } = parseArgs({
    options: {
      id: { type: 'string' },
      cluster: { type: 'string', default: 'demo' },
      seed: { type: 'string', multiple: true, default: [] },
      listen: { type: 'string', default: '127.0.0.1:0' },
      tag: { type: 'string', multiple: true, default: [] },
    },
  });
  if (values.id === undefined) throw new Error("give this node's name: --id <name>");
  // Never an argument: every user of a machine can read the arguments of every process.
  const secret = process.env.PEERAGE_SECRET;
  if (secret === undefined) {
    throw new Error('set PEERAGE_SECRET to the secret that all nodes of the cluster share');
  }
  return {
    nodeId: values.id,
    cluster: values.cluster,
    seeds: values.seed,
    listen: values.listen,
    tags: Object.fromEntries(values.tag.map(tag)),
    secret,
  };
}

function tag(text) {
  const at = text.indexOf('=');
  if (at < 1) throw new Error(`--tag ${text}: expected key=value`);
  return [text.slice(0, at), text.slice(at + 1)];
}

/**
 * Reads orders on standard input, a line each: `ask <id>` calls `ask` with the id, `leave` resolves.
 * So does the end of standard input: whoever started us is gone then.
 */
export async function toldToLeave(ask) {
  const lines = createInterface({ input: process.stdin });
  for await (const line of lines) {
    if (line.trim() === 'leave') break;
    const asked = /^ask (.+)$/.exec(line.trim());
    if (asked !== null) ask(asked[1]);
  }
  process.stdin.destroy(); // it would keep the process alive
}
