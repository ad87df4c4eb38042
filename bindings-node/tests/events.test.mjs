// Both ways to hear of events: in order, batched, bounded, and released when nobody listens.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Code } from 'peerage';

import { PATIENCE, QUICK, nodes, pair, until } from './support.mjs';

test('for await and on() hear the same events in the same order', async (t) => {
  const { a, b, start } = await pair(t, QUICK);
  const stream = a.events();
  const heard = [];
  const byKind = [];
  a.on('event', (event) => heard.push(event));
  a.on('memberJoined', (event) => byKind.push(['joined', event.member.id]));
  a.on('memberFailed', (event) => byKind.push(['failed', event.member.id, event.observers]));
  a.on('memberLeft', (event) => byKind.push(['left', event.member.id]));
  const closed = new Promise((resolve) => a.on('closed', resolve));

  await b.setTags({ v: '1' });
  await until('the tags are seen', () => a.get('b').tags.v === '1');
  const c = await start('c', { seeds: [a.addr], ...QUICK });
  await c.join({ deadline: PATIENCE });
  await until('c is known', () => b.get('c') && a.get('c'));
  await c.shutdownNow();
  await until('c has failed', () => a.get('c').state === 'failed');
  await b.leave();
  await until('b has left', () => a.get('b').state === 'left');
  await a.leave();

  const taken = [];
  for await (const event of stream) taken.push(event);
  assert.equal((await closed).code, Code.Closed);
  assert.deepEqual(taken, heard);
  const shown = taken
    // Who notices first, or that it is slow itself, is a matter of times.
    .filter(({ kind }) => kind !== 'LocalHealthChanged' && kind !== 'HealthCheckFailed')
    .map((event) => [event.kind, event.member?.id]);
  assert.deepEqual(shown, [
    ['MemberUpdated', 'b'],
    ['MemberJoined', 'c'],
    ['MemberSuspected', 'c'],
    ['MemberFailed', 'c'],
    ['MemberLeft', 'b'],
  ]);
  taken.forEach((event, at) => assert.equal(event.seq, taken[0].seq + BigInt(at)));
  const failed = taken.find((event) => event.kind === 'MemberFailed');
  assert.equal(failed.replaced, false);
  assert.equal(failed.member.state, 'failed');
  assert.ok(failed.observers.length > 0);
  for (const { observer, phi, missedProbes, direction, healthScore } of failed.observers) {
    assert.ok(['a', 'b'].includes(observer));
    assert.ok(phi === null || (phi >= 0 && phi <= 1000), `${phi}`);
    assert.ok(Number.isInteger(missedProbes) && missedProbes >= 0);
    assert.ok(['fromMember', 'toMember', 'both', 'unknown'].includes(direction), direction);
    assert.ok(Number.isInteger(healthScore) && healthScore >= 0 && healthScore <= 8);
  }
  assert.deepEqual(byKind, [
    ['joined', 'c'],
    ['failed', 'c', failed.observers],
    ['left', 'b'],
  ]);
});

test('whoever stops listening is unsubscribed', async (t) => {
  const { a, b } = await pair(t);
  const subscribers = (count) => until(`${count} listen`, () => a.stats().subscribers === count);
  const change = async (v) => {
    await b.setTags({ v });
    await until('the tags are seen', () => a.get('b').tags.v === v);
  };
  await subscribers(0);

  const stream = a.events();
  await subscribers(1);
  await change('1');
  for await (const event of stream) {
    assert.equal(event.kind, 'MemberUpdated');
    break;
  }
  await subscribers(0);
  assert.deepEqual(await stream.next(), { value: undefined, done: true });

  const waiting = a.events();
  const next = waiting.next();
  await waiting.return();
  assert.equal((await next).done, true);
  const left = a.events();
  const changed = change('2');
  await assert.rejects(async () => {
    for await (const event of left) throw new Error(event.kind);
  }, /MemberUpdated/);
  await subscribers(0);
  await changed;

  let heard = 0;
  const listener = () => (heard += 1);
  a.on('memberUpdated', listener).on('event', listener).once('event', listener);
  await subscribers(1);
  await change('3');
  await until('all have heard', () => heard === 3);
  await change('4');
  await until('two have heard', () => heard === 5);
  a.off('memberUpdated', listener).off('event', listener);
  await subscribers(0);
  a.once('memberUpdated', listener);
  await subscribers(1);
  await change('5');
  await until('the last has heard', () => heard === 6);
  await subscribers(0);
});

test('several calls of next() are served in their order', async (t) => {
  const { a, b } = await pair(t);
  const stream = a.events();
  const results = Promise.all([stream.next(), stream.next(), stream.next()]);
  for (const v of ['1', '2', '3']) {
    await b.setTags({ v });
    await until('the tags are seen', () => a.get('b').tags.v === v);
  }
  const values = (await results).map((result) => result.value);
  assert.deepEqual(
    values.map((event) => event.member.tags.v),
    ['1', '2', '3'],
  );
  await stream[Symbol.asyncDispose]();
});

test('a stalled consumer stays bounded, is told, and is right again', async (t) => {
  const { a, b } = await pair(t, {}, {});
  const slow = await nodes(t)('slow'); // a node of another cluster is not disturbed
  const { a: c, b: d } = await pair(t, { cluster: 'small', eventQueue: 4 });
  const stream = c.events();
  const tags = (v) => until('the tags are seen', () => c.get('b').tags.v === v);
  for (let v = 0; v < 10; v++) {
    await d.setTags({ v: String(v) });
    await tags(String(v));
  }
  assert.ok(c.stats().eventsDropped >= 5);
  const first = (await stream.next()).value;
  assert.equal(first.kind, 'EventsDropped');
  assert.equal(typeof first.count, 'bigint');
  assert.ok(first.count > 0n);
  assert.deepEqual(
    first.members.map((member) => [member.id, member.tags]),
    [
      ['a', {}],
      ['b', { v: first.members[1].tags.v }],
    ],
  );
  // What follows the snapshot leads to how things stand.
  await d.setTags({ v: 'last' });
  await tags('last');
  const known = new Map(first.members.map((member) => [member.id, member]));
  let seq = first.seq;
  while (known.get('b').tags.v !== 'last') {
    const { value: event } = await stream.next();
    assert.equal(event.seq, seq + 1n);
    seq = event.seq;
    if (event.member) known.set(event.member.id, event.member);
  }
  assert.deepEqual({ ...known.get('b'), rtt: null }, { ...c.get('b'), rtt: null });
  assert.equal(a.stats().eventsDropped + b.stats().eventsDropped, 0);
  assert.equal(slow.closed, undefined);
});

test('a listener that throws costs no event, and is heard of', async (t) => {
  const { a, b } = await pair(t);
  const uncaught = [];
  const heard = [];
  // node:test has a listener of its own, which would fail the test.
  const own = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', (error) => uncaught.push(error.message));
  try {
    a.on('memberUpdated', () => {
      throw new Error('from a listener');
    });
    a.on('event', (event) => heard.push(event.member.tags.v));
    for (const v of ['1', '2', '3']) {
      await b.setTags({ v });
      await until('the tags are seen', () => a.get('b').tags.v === v);
    }
    await until('all were heard', () => heard.length === 3 && uncaught.length === 3);
  } finally {
    process.removeAllListeners('uncaughtException');
    own.forEach((listener) => process.on('uncaughtException', listener));
  }
  assert.deepEqual(uncaught, Array(3).fill('from a listener'));
  assert.deepEqual(heard, ['1', '2', '3']);
});

test('a listener may do anything, leaving included', async (t) => {
  const { a, b } = await pair(t);
  const left = new Promise((resolve) => {
    a.on('memberUpdated', async () => {
      a.handle('x', () => 'x');
      resolve(await a.leave());
    });
  });
  await b.setTags({ go: 'now' });
  assert.equal((await left).phases.length, 4);
});
