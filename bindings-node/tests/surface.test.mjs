// Every call, against a real second node.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Cluster, Code, PeerageError, generateSecret } from 'peerage';

import { PATIENCE, failure, nodes, pair, until } from './support.mjs';

const quick = { deadline: PATIENCE };

test('members, tags and addresses are seen by the other node', async (t) => {
  const { a, b } = await pair(t, { tags: { role: 'first' } }, { tags: { zone: 'größe-雪-🦀' } });
  assert.equal(b.local.id, 'b');
  assert.equal(b.local.state, 'alive');
  assert.equal(b.local.rtt, null);
  assert.equal(typeof b.local.instance, 'bigint');
  assert.equal(b.addr, b.boundAddr);
  assert.deepEqual(a.get('b').tags, { zone: 'größe-雪-🦀' });
  assert.equal(a.get('b').addr, b.addr);
  assert.equal(a.get('b').instance, b.local.instance);
  assert.equal(a.get('nobody'), undefined);
  assert.deepEqual(
    a.members().map((m) => m.id),
    ['a', 'b'],
  );
  const found = await until('a is found', () => b.membersWith({ role: 'first' })[0]);
  assert.equal(found.id, 'a');
  assert.deepEqual(b.membersWith({ role: 'second' }), []);

  const before = b.local.incarnation;
  await b.setTags({ empty: '', ['__proto__']: 'not lost', 1: 'one' });
  assert.ok(b.local.incarnation > before);
  const tags = await until('a sees them', () => 'empty' in a.get('b').tags && a.get('b').tags);
  assert.deepEqual(Object.entries(tags).sort(), [
    ['1', 'one'],
    ['__proto__', 'not lost'],
    ['empty', ''],
  ]);
  assert.ok(Object.isFrozen(tags));
  await until('a round trip was measured', () => a.get('b').rtt > 0);
});

test('requests, messages and handlers of every kind', async (t) => {
  const { a, b } = await pair(t);
  a.handle('text', (request) => `${request.from}/${request.topic}/${request.payload}`);
  a.handle('bytes', (request) => request.payload);
  a.handle('later', async ({ payload }) => {
    await sleep(1);
    return new Uint8Array(payload);
  });
  a.handle('nothing', () => {});
  a.handle('view', () => new DataView(new Uint8Array([1, 2, 3, 4]).buffer, 1, 2));
  const ask = async (...args) => b.request('a', ...args);
  assert.equal((await ask('text', 'grüße')).toString(), 'b/text/grüße');
  assert.deepEqual(await ask('bytes', Buffer.from([0, 255])), Buffer.from([0, 255]));
  assert.deepEqual(await ask('bytes', new Uint8Array([9]).buffer, quick), Buffer.from([9]));
  assert.deepEqual(await ask('bytes', new Uint16Array([258])), Buffer.from([2, 1]));
  assert.deepEqual(await ask('later', 'x'), Buffer.from('x'));
  assert.deepEqual(await ask('nothing'), Buffer.alloc(0));
  assert.deepEqual(await ask('view', null), Buffer.from([2, 3]));
  assert.ok(Buffer.isBuffer(await ask('nothing')));
  assert.equal((await b.request('b', 'x').catch((e) => e)).code, 'UnknownTopic');

  const got = [];
  a.handle('inbox', (request) => void got.push(`${request.from}: ${request.payload}`));
  await b.send('a', 'inbox', 'one');
  await b.send('a', 'inbox');
  await a.send('a', 'inbox', 'self');
  await until('all have come', () => got.length === 3);
  assert.deepEqual(got.sort(), ['a: self', 'b: ', 'b: one']);

  assert.equal(a.unhandle('inbox'), true);
  assert.equal(a.unhandle('inbox'), false);
  assert.equal((await failure(ask('inbox'))).code, Code.UnknownTopic);
  a.handle('inbox', () => 'again');
  assert.equal(String(await ask('inbox')), 'again');
  const twice = await failure(() => a.handle('inbox', () => {}));
  assert.equal(twice.code, 'Argument');
  assert.equal(twice.details.fields[0].field, 'topic');
});

test('payloads of 0 B to 16 MiB arrive as they were', async (t) => {
  const { a, b } = await pair(t);
  a.handle('echo', (request) => request.payload);
  for (const size of [0, 1, 4095, 4096, 4097, 65_536, 16 * 1024 * 1024]) {
    const sent = Buffer.alloc(size);
    for (let at = 0; at < size; at += 997) sent[at] = at;
    const answer = await b.request('a', 'echo', sent, quick);
    assert.ok(answer.equals(sent), `${size} bytes`);
  }
  // Many at once, of sizes that share a buffer and of those that do not.
  const sizes = Array.from({ length: 300 }, (_, at) => at * 31);
  const answers = await Promise.all(
    sizes.map((size) => b.request('a', 'echo', Buffer.alloc(size, size), quick)),
  );
  answers.forEach((answer, at) => {
    assert.ok(answer.equals(Buffer.alloc(sizes[at], sizes[at])), `${sizes[at]} bytes`);
  });
});

test('a handler that throws, rejects or answers nonsense', async (t) => {
  const { a, b } = await pair(t);
  a.handle('throws', () => {
    throw new TypeError('no such luck');
  });
  a.handle('rejects', () => Promise.reject(new Error('later no luck')));
  a.handle('throws text', () => {
    throw 'only text';
  });
  a.handle('throws nothing', () => {
    throw Object.create(null);
  });
  a.handle('nonsense', () => 5);
  for (const [topic, message] of [
    ['throws', 'no such luck'],
    ['rejects', 'later no luck'],
    ['throws text', 'only text'],
    ['throws nothing', 'the handler threw something that has no text'],
    ['nonsense', 'must be bytes or text'],
  ]) {
    const error = await failure(b.request('a', topic, '', quick));
    assert.ok(error instanceof PeerageError);
    assert.equal(error.code, Code.Handler, topic);
    assert.ok(error.message.includes(message), error.message);
    assert.equal(error.details.target, 'a');
    assert.equal(error.details.topic, topic);
  }
  await until('nothing is left', () => a.stats().requestsIn + b.stats().requestsOut === 0);
});

test('a handler that never answers costs the caller its deadline and nothing more', async (t) => {
  const { a, b } = await pair(t);
  a.handle('never', () => new Promise(() => {}));
  const before = performance.now();
  const error = await failure(b.request('a', 'never', '', { deadline: 250 }));
  assert.equal(error.code, Code.Timeout);
  assert.equal(error.details.after, 250);
  assert.ok(performance.now() - before >= 249);
  await until('nothing is left', () => a.stats().requestsIn + b.stats().requestsOut === 0);
});

test('an aborted request releases everything on both sides', async (t) => {
  const { a, b } = await pair(t);
  let handling = 0;
  a.handle('never', () => {
    handling += 1;
    return new Promise(() => {});
  });
  const reason = new Error('changed my mind');
  const controller = new AbortController();
  const { signal } = controller;
  let listeners = 0;
  for (const [method, by] of [
    ['addEventListener', 1],
    ['removeEventListener', -1],
  ]) {
    const real = signal[method].bind(signal);
    signal[method] = (...args) => {
      listeners += by;
      real(...args);
    };
  }
  const requests = Array.from({ length: 20 }, () =>
    b.request('a', 'never', 'x', { signal, ...quick }),
  );
  const ends = Promise.allSettled(requests);
  await until('they are being handled', () => handling === 20 && a.stats().requestsIn === 20);
  assert.equal(b.stats().requestsOut, 20);
  assert.equal(listeners, 1); // one for all: Node warns of more than ten
  controller.abort(reason);
  for (const end of await ends) assert.equal(end.reason, reason);
  assert.equal(listeners, 0);
  await until('nothing is left', () => a.stats().requestsIn + b.stats().requestsOut === 0);
  assert.equal(a.stats().requestsAbandoned, 20);

  // Aborted before it began: nothing is sent.
  assert.equal(await failure(b.request('a', 'never', 'x', { signal })), reason);
  assert.equal(handling, 20);
  // Aborted after the end: nothing happens.
  a.handle('soon', () => 'done');
  const after = new AbortController();
  assert.equal(String(await b.request('a', 'soon', '', { signal: after.signal })), 'done');
  after.abort();
  // A timeout's signal works like any other.
  const late = await failure(b.request('a', 'never', 'x', { signal: AbortSignal.timeout(50) }));
  assert.equal(late.name, 'TimeoutError');
});

test('a join can be aborted, and fails with what each seed said', async (t) => {
  const start = nodes(t);
  const gone = await start('gone');
  const seeds = [gone.addr];
  await gone.shutdownNow();
  const node = await start('node', { seeds });
  const controller = new AbortController();
  const joining = failure(node.join({ signal: controller.signal }));
  controller.abort();
  assert.equal((await joining).name, 'AbortError');
  const error = await failure(node.join({ deadline: 50 }));
  assert.equal(error.code, Code.JoinFailed);
  assert.equal(error.details.seeds[0].addr, seeds[0]);
  assert.equal(node.closed, undefined);
});

test('leaving says how it went, and everything after it is Closed', async (t) => {
  const { a, b } = await pair(t);
  b.handle('x', () => 'x');
  const events = b.events();
  const [report, again] = await Promise.all([b.leave(), b.leave()]);
  assert.deepEqual(report, again);
  assert.deepEqual(
    report.phases.map((phase) => phase.name),
    ['announce', 'drain', 'clear', 'close'],
  );
  assert.ok(report.phases.every((phase) => phase.complete && phase.took >= 0));
  assert.equal(report.requestsCutOff, 0);
  await until('a knows', () => a.get('b').state === 'left');

  assert.equal(b.closed.code, Code.Closed);
  assert.ok(b.closed instanceof PeerageError);
  const calls = {
    join: () => b.join(),
    request: () => b.request('a', 'x', ''),
    send: () => b.send('a', 'x', ''),
    setTags: () => b.setTags({}),
    updateTag: () => b.updateTag('x', 'y'),
    removeTag: () => b.removeTag('x'),
    explain: () => b.explain('a'),
    handle: () => b.handle('y', () => {}),
  };
  for (const [name, call] of Object.entries(calls)) {
    assert.equal((await failure(call)).code, Code.Closed, name);
  }
  assert.equal(b.unhandle('x'), false);
  assert.equal((await events.next()).done, true);
  assert.equal((await b.events().next()).done, true);
  assert.deepEqual(await b.leave(), report);
  assert.deepEqual(await b.shutdownNow(), report);
  assert.equal(b.local.id, 'b');
  assert.equal(b.members().length, 2);
  assert.equal(b.stats().requestsOut, 0);
  assert.equal(b.ref().unref(), b);
});

test('tags change one by one, and none is lost', async (t) => {
  const { a, b } = await pair(t);
  const keys = Array.from({ length: 20 }, (_, at) => `key ${at}`);
  await Promise.all(keys.map((key) => b.updateTag(key, 'größe-雪-🦀')));
  const expected = Object.fromEntries(keys.map((key) => [key, 'größe-雪-🦀']));
  assert.deepEqual({ ...b.local.tags }, expected);
  assert.equal(await b.removeTag('key 0'), true);
  assert.equal(await b.removeTag('key 0'), false);
  await b.updateTag('key 1', '');
  await until('a knows', () => a.get('b').tags['key 1'] === '' && !('key 0' in a.get('b').tags));
  assert.equal(Object.keys(a.get('b').tags).length, 19);
});

test('an explanation says what is known of a member', async (t) => {
  const { a, b } = await pair(t);
  await until('a watches b', async () => (await a.explain('b')).watched);
  const { phi, heard, refuteWithin, history, observers, ...rest } = await a.explain('b');
  assert.deepEqual(rest, {
    id: 'b',
    state: 'alive',
    incarnation: a.get('b').incarnation,
    linked: true,
    watched: true,
    unseen: rest.unseen,
    missedProbes: 0,
  });
  assert.ok(phi === null || (phi >= 0 && phi <= 1000));
  assert.ok(heard === null || heard >= 0);
  assert.equal(refuteWithin, null);
  assert.deepEqual(observers, []);
  assert.deepEqual(
    history.map(({ what, state }) => [what, state]),
    [['MemberJoined', 'alive']],
  );
  await b.updateTag('x', 'y');
  await until('a knows', () => a.get('b').tags.x === 'y');
  assert.equal((await a.explain('b')).history.at(-1).what, 'MemberUpdated');
  assert.equal(await a.explain('a'), null);
  assert.equal(await a.explain('nobody'), null);
});

test('await using leaves', async (t) => {
  const start = nodes(t);
  const node = await start('node');
  const closed = new Promise((resolve) => node.on('closed', resolve));
  await node[Symbol.asyncDispose]();
  assert.equal((await closed).code, Code.Closed);
  assert.equal(node.closed.code, Code.Closed);
});

test('a node whose name is taken ends with NameConflict', async (t) => {
  const start = nodes(t);
  const first = await start('same');
  const second = await start('same', { seeds: [first.addr] });
  const closed = new Promise((resolve) => second.once('closed', resolve));
  assert.equal((await failure(second.join(quick))).code, Code.NameConflict);
  assert.equal((await closed).code, Code.NameConflict);
  assert.equal(first.closed, undefined);
});

test('arguments of wrong types are named', async (t) => {
  const node = await nodes(t)('node');
  const wrong = [
    [() => node.request(5, 'x'), 'target'],
    [() => node.request('node', {}), 'topic'],
    [() => node.request('node', ''), 'topic'],
    [() => node.request('node', 'x', 5), 'payload'],
    [() => node.request('node', 'x', [1, 2]), 'payload'],
    [() => node.request('node', 'x', '\ud800'), 'payload'],
    [() => node.request('node', 'x', '', { deadline: 'soon' }), 'deadline'],
    [() => node.request('node', 'x', '', { deadline: NaN }), 'deadline'],
    [() => node.request('node', 'x', '', { deadline: 0 }), 'deadline'],
    [() => node.request('node', 'x', '', { deadline: 3_600_001 }), 'deadline'],
    [() => node.join({ deadline: -1 }), 'deadline'],
    [() => node.send('node', Symbol('x')), 'topic'],
    [() => node.setTags({ a: 1 }), 'tags'],
    [() => node.setTags(new Map([['a', 'b']])), 'tags'],
    [() => node.setTags({ '': 'x' }), 'tags'],
    [() => node.updateTag(1, 'x'), 'key'],
    [() => node.updateTag('a', 1), 'value'],
    [() => node.updateTag('', 'x'), 'tag'],
    [() => node.updateTag('x'.repeat(2049), ''), 'tag'],
    [() => node.removeTag(null), 'key'],
    [() => node.explain(1), 'id'],
    [() => node.membersWith({ a: undefined }), 'tags'],
    [() => node.get(1n), 'id'],
    [
      () =>
        node.handle(
          () => {},
          () => {},
        ),
      'topic',
    ],
    [() => node.handle('x'.repeat(257), () => {}), 'topic'],
    [() => node.handle('x', 'y'), 'handler'],
    [() => node.unhandle(null), 'topic'],
  ];
  for (const [call, field] of wrong) {
    const error = await failure(call);
    assert.ok(error instanceof PeerageError, `${call}: ${error}`);
    assert.equal(error.code, Code.Argument, `${call}`);
    assert.equal(error.details.fields.length, 1, `${call}`);
    assert.equal(error.details.fields[0].field, field, `${call}`);
  }
  const thrown = new Error('a getter of the caller');
  const trap = Object.defineProperty({}, 'x', {
    enumerable: true,
    get: () => {
      throw thrown;
    },
  });
  assert.equal(await failure(node.setTags(trap)), thrown);
  assert.equal(await failure(Cluster.start(trap)), thrown);
});

test('a secret is new each time, and errors are errors', () => {
  const [one, two] = [generateSecret(), generateSecret()];
  assert.notEqual(one, two);
  assert.ok(one.length >= 32);
  const error = new PeerageError(Code.Timeout, 'late');
  assert.ok(error instanceof Error);
  assert.equal(`${error}`, 'PeerageError: late');
  assert.deepEqual(Object.keys(Code).sort(), Object.values(Code).sort());
});
