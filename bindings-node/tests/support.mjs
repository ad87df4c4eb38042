// What the tests share: nodes on loopback, and waiting for a condition instead of for a while.
import { spawn } from 'node:child_process';
import { isAbsolute } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { Cluster, generateSecret } from 'peerage';

/** No condition is waited for longer than this. */
export const PATIENCE = 30_000;

/** Failures are noticed soon. */
export const QUICK = {
  probeInterval: 200,
  probeTimeout: 100,
  indirectTimeout: 200,
  suspicionMin: 1000,
  suspicionMaxFactor: 1,
  gossipInterval: 50,
};

export async function until(what, holds) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const held = await holds();
    if (held) return held;
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await sleep(5);
  }
}

/** Starts nodes that end with the test. */
export function nodes(t, { cluster = 'test', ...common } = {}) {
  const secret = generateSecret();
  return async (nodeId, config = {}) => {
    const node = await Cluster.start({ cluster, nodeId, secret, ...common, ...config });
    t.after(() => node.shutdownNow().catch(() => {}));
    return node;
  };
}

/** Two nodes that know each other. */
export async function pair(t, config = {}, configB = {}) {
  const start = nodes(t, config);
  const a = await start('a');
  const b = await start('b', { seeds: [a.addr], ...configB });
  await b.join({ deadline: PATIENCE });
  await until('both know both', () => a.stats().alive === 2 && b.stats().alive === 2);
  return { a, b, start };
}

/** What a call fails with; that it succeeds is a failure. */
export async function failure(call) {
  try {
    await (typeof call === 'function' ? call() : call);
  } catch (error) {
    return error;
  }
  throw new Error('the call succeeded');
}

/** Runs a script, of `tests/programs` or by its whole path, to its end; late, it is killed. */
export async function run(t, program, { args = [], flags = [], env = {} } = {}) {
  const path = isAbsolute(program)
    ? program
    : fileURLToPath(new URL(`programs/${program}`, import.meta.url));
  const child = spawn(process.execPath, [...flags, path, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  let [out, err] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text) => (out += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (err += text));
  const late = setTimeout(() => child.kill('SIGKILL'), 2 * PATIENCE);
  const [code, signal] = await new Promise((resolve) => {
    child.on('close', (...end) => resolve(end));
  });
  clearTimeout(late);
  return { code, signal, out, err };
}
