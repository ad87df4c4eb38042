// The example programs do what those in Rust do.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { generateSecret } from 'peerage';

import { checksum } from '../../examples/node/work.mjs';
import { PATIENCE, failure, nodes, run, until } from './support.mjs';

const example = (name) => fileURLToPath(new URL(`../../examples/node/${name}`, import.meta.url));

test('the checksum is FNV-1a', () => {
  assert.equal(checksum(Buffer.from('')), 0xcbf29ce484222325n);
  assert.equal(checksum(Buffer.from('a')), 0xaf63dc4c8601ec8cn);
});

test('the quickstart does what it says', async (t) => {
  const end = await run(t, example('quickstart.mjs'));
  assert.equal(end.code, 0, end.err);
  assert.deepEqual(end.out.trim().split('\n'), [
    'bob heard: hello bob, this is alice',
    'alice saw: MemberJoined bob {"role":"guest"}',
    'alice saw: MemberLeft bob {"role":"guest"}',
  ]);
});

test('the streams do what the README says', async (t) => {
  const end = await run(t, example('streams.mjs'));
  assert.equal(end.code, 0, end.err);
  assert.equal(end.out, 'client read: HELLO\n');
});

for (const goodbye of ['leave', 'end']) {
  test(`a worker works, reports and leaves: ${goodbye}`, async (t) => {
    const secret = generateSecret();
    const director = await nodes(t, { cluster: 'demo' })('director', { secret });
    const args = ['--id', 'w1', '--seed', director.addr, '--tag', 'role=worker', '--tag', 'a=b=c'];
    const child = spawn(process.execPath, [example('worker.mjs'), ...args], {
      env: { ...process.env, PEERAGE_SECRET: secret },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    t.after(() => child.kill('SIGKILL'));
    const lines = [];
    createInterface({ input: child.stdout }).on('line', (line) => lines.push(JSON.parse(line)));
    const workers = () => director.membersWith({ role: 'worker' });
    const [worker] = await until('it has come', () => workers().length === 1 && workers());
    assert.deepEqual(worker.tags, { role: 'worker', a: 'b=c' });

    const ask = (payload) => director.request('w1', 'work', payload, { deadline: PATIENCE });
    assert.equal((await ask('request 1')).readBigUInt64BE(), checksum(Buffer.from('request 1')));
    assert.match((await failure(ask(''))).message, /there is nothing to do/);

    const views = () => lines.filter((line) => line.type === 'view');
    const complete = () =>
      views()
        .at(-1)
        ?.members.every((m) => m.rtt_us > 0 || m.id === 'w1');
    await until('it has measured us', () => views().at(-1)?.members.length === 2 && complete());
    assert.deepEqual(lines[0], { type: 'ready', id: 'w1', addr: worker.addr });
    const [seen, itself] = views().at(-1).members;
    assert.deepEqual([seen.id, seen.state, seen.tags], ['director', 'alive', {}]);
    assert.deepEqual([itself.id, itself.rtt_us, itself.unresponsive], ['w1', null, false]);
    assert.equal(itself.instance, worker.instance.toString(16).padStart(16, '0'));
    assert.equal(itself.incarnation, Number(worker.incarnation));
    const joined = await until('an event', () => lines.find((line) => line.type === 'event'));
    assert.deepEqual([joined.kind, joined.member], ['MemberJoined', 'director']);
    assert.ok(joined.at_ms >= 0);

    if (goodbye === 'leave') child.stdin.write('leave\n');
    else child.stdin.end();
    const [code] = await once(child, 'exit');
    assert.equal(code, 0);
    await until('it has left', () => director.get('w1').state === 'left');
  });
}

test('a worker without a name or a secret says what is missing', async (t) => {
  const nameless = await run(t, example('worker.mjs'), { env: { PEERAGE_SECRET: 'x' } });
  assert.notEqual(nameless.code, 0);
  assert.match(nameless.err, /--id/);
  const args = ['--id', 'x'];
  const bare = await run(t, example('worker.mjs'), { args, env: { PEERAGE_SECRET: undefined } });
  assert.notEqual(bare.code, 0);
  assert.match(bare.err, /PEERAGE_SECRET/);
});
