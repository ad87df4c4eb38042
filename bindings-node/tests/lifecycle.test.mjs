// How nodes, processes, threads and garbage end. Each in a process of its own.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

import { generateSecret, Cluster } from 'peerage';

import { PATIENCE, QUICK, failure, nodes, run, until } from './support.mjs';

const ends = {
  exit: { code: 7, out: 'exits' },
  'exit in a listener': { code: 7, out: '' },
  throw: { code: 1, out: 'throws', err: 'uncaught on purpose' },
  signal: { code: null, signal: 'SIGTERM', out: 'kills itself' },
  unref: { code: 0, out: 'ends by itself' },
  leave: { code: 0, out: 'the stream has ended\nends by itself' },
};

for (const [way, expected] of Object.entries(ends)) {
  test(`a process ends with live nodes and open subscriptions: ${way}`, async (t) => {
    const end = await run(t, 'exit.mjs', { args: [way] });
    const shown = JSON.stringify(end);
    assert.equal(end.code, expected.code, shown);
    assert.equal(end.signal, expected.signal ?? null, shown);
    assert.equal(end.out.trim(), expected.out, shown);
    if (expected.err) assert.ok(end.err.includes(expected.err), shown);
    else assert.equal(end.err, '', shown);
  });
}

test('a node keeps the process alive until it leaves, and so does a call after unref()', async (t) => {
  const end = await run(t, 'stays.mjs');
  assert.equal(end.out, 'answer: done\nhas left\nended in time\n', JSON.stringify(end));
  assert.equal(end.code, 0);
});

test('workers that alone hold the addon end with live nodes', async (t) => {
  const end = await run(t, 'worker.mjs');
  assert.equal(end.out, 'all have ended\n', JSON.stringify(end));
  assert.equal(end.code, 0);
  assert.equal(end.err, '');
});

test('ended nodes leave no descriptor and no thread', async (t) => {
  if (process.platform !== 'linux') return t.skip('they are counted in /proc');
  const end = await run(t, 'restarts.mjs');
  assert.equal(end.out, '21 have ended\n', JSON.stringify(end));
  assert.equal(end.code, 0);
});

test('what nobody can reach is collected, what somebody uses is not', async (t) => {
  const end = await run(t, 'collect.mjs', { flags: ['--expose-gc'] });
  assert.equal(end.out, 'collected\n', JSON.stringify(end));
  assert.equal(end.code, 0);
});

test('a JavaScript loop blocked for 10 s costs no heartbeat', { timeout: 90_000 }, async (t) => {
  const secret = generateSecret();
  const watcher = await Cluster.start({ cluster: 'test', nodeId: 'watcher', secret });
  t.after(() => watcher.shutdownNow());
  const heard = [];
  watcher.on('event', (event) => heard.push([event.kind, event.member?.tags.state]));
  letItLeave(watcher);
  // Nobody answers meanwhile; requests whose callers have given up are not kept for later.
  const late = [];
  watcher.on('memberUpdated', ({ member }) => {
    if (member.tags.state !== 'blocked') return;
    const ask = () => watcher.request('blocked', 'work', 'x'.repeat(10_000), { deadline: 500 });
    for (let i = 0; i < 300; i++) late.push(failure(ask));
  });
  const args = [watcher.addr, secret, '10000', '60000'];
  const end = await run(t, 'blocked.mjs', { args });
  assert.equal(end.code, 0, JSON.stringify(end));
  assert.deepEqual(JSON.parse(end.out), { heard: 0, handled: 0, requestsIn: 0 });
  assert.equal(late.length, 300);
  // One that was begun on a surplus link, which is closed soon after a join, may say LinkLost.
  for (const error of await Promise.all(late)) assert.match(error.code, /^(Timeout|LinkLost)$/);
  await until('it has left', () => watcher.get('blocked').state === 'left');
  await until('that was heard', () => heard.some(([kind]) => kind === 'MemberLeft'));
  const about = heard.filter(([kind]) => kind !== 'LocalHealthChanged');
  assert.deepEqual(about, [
    ['MemberJoined', undefined],
    ['MemberUpdated', 'blocked'],
    ['MemberUpdated', 'free'],
    ['MemberLeft', 'free'],
  ]);
});

test('whoever waits for the end of what a node tells hears it, though nothing else is left', async (t) => {
  const end = await run(t, 'ends.mjs', { args: ['60'] });
  assert.equal(end.code, 0, JSON.stringify(end));
  assert.equal(end.out, '60\n');
});

for (const where of ['process', 'worker']) {
  test(`a blocked JavaScript loop is unresponsive, never suspect: ${where}`, async (t) => {
    const secret = generateSecret();
    const watcher = await Cluster.start({ cluster: 'test', nodeId: 'watcher', secret });
    t.after(() => watcher.shutdownNow());
    const heard = [];
    watcher.on('event', (event) => heard.push([event.kind, event.member?.unresponsive]));
    letItLeave(watcher);
    const args = [watcher.addr, secret, '3000', '500'];
    if (where === 'process') {
      const end = await run(t, 'blocked.mjs', { args });
      assert.equal(end.code, 0, JSON.stringify(end));
    } else {
      const program = new URL('programs/blocked.mjs', import.meta.url);
      const worker = new Worker(program, { argv: args, stdout: true });
      t.after(() => worker.terminate());
      const code = await new Promise((resolve, reject) => {
        worker.on('exit', resolve).on('error', reject);
      });
      assert.equal(code, 0);
    }
    await until('that it left was heard', () => heard.some(([kind]) => kind === 'MemberLeft'));
    // No suspicion, and nobody failed to reach it.
    const kinds = new Set(heard.map(([kind]) => kind));
    kinds.delete('LocalHealthChanged');
    assert.deepEqual([...kinds], ['MemberJoined', 'MemberUpdated', 'MemberLeft']);
    const flags = heard.filter(([kind]) => kind === 'MemberUpdated').map(([, flag]) => flag);
    const changes = flags.filter((flag, at) => flag !== flags[at - 1]);
    assert.deepEqual(changes, [false, true, false]);
    const { history } = await watcher.explain('blocked');
    assert.ok(history.every(({ state }) => state !== 'suspect'));
  });
}

/** Tells `blocked` to leave once it is free and responds again. */
function letItLeave(watcher) {
  watcher.on('memberUpdated', ({ member }) => {
    if (member.tags.state === 'free' && !member.unresponsive) void watcher.send('blocked', 'bye');
  });
}

test('a node in a worker talks to one in the main thread, and fails with its thread', async (t) => {
  const secret = generateSecret();
  const node = await nodes(t)('main', { secret, ...QUICK });
  node.handle('who', (request) => request.from);
  const source = `
    const { workerData, parentPort } = require('node:worker_threads');
    const { Cluster } = require('peerage');
    Cluster.start(workerData).then(async (node) => {
      node.handle('who', (request) => request.from);
      await node.join();
      parentPort.postMessage(String(await node.request('main', 'who')));
    });`;
  const workerData = { cluster: 'test', nodeId: 'worker', secret, seeds: [node.addr], ...QUICK };
  const worker = new Worker(source, { eval: true, workerData });
  t.after(() => worker.terminate());
  const said = await new Promise((resolve, reject) => {
    worker.on('message', resolve).on('error', reject);
  });
  assert.equal(said, 'worker');
  assert.equal(String(await node.request('worker', 'who', '', { deadline: PATIENCE })), 'main');
  await worker.terminate();
  await until('its end is noticed', () => node.get('worker').state === 'failed');
});
