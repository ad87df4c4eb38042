// Every type of value both ways, without a network.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const { echoEvents, echoValue } = createRequire(import.meta.url)('../dist/echo.js');

test('values come back as they were', () => {
  const u64 = 2n ** 64n - 1n;
  for (const value of [
    null,
    true,
    false,
    0,
    -0,
    1.5,
    -1e308,
    Infinity,
    2 ** 53,
    0n,
    1n,
    u64,
    -u64,
    '',
    'text',
    'größe-雪-🦀',
    'zero\0width\u200b',
    '\ufffd',
    'x'.repeat(100_000),
    [],
    [1, [2n, ['three']]],
    {},
    { a: { b: [null] }, größe: '雪', '': 'empty' },
  ]) {
    assert.deepStrictEqual(echoValue(value), value);
  }
  assert.ok(Number.isNaN(echoValue(NaN)));
  assert.equal(echoValue(undefined), null);
  assert.deepEqual(echoValue(Object.assign(Object.create(null), { a: 1 })), { a: 1 });
  class Settings {
    a = 1;
  }
  assert.deepEqual(echoValue(new Settings()), { a: 1 });
});

test('bytes come back as a Buffer, whatever held them', () => {
  const bytes = Buffer.from([1, 2, 3, 4, 5, 6, 7, 8]);
  const { buffer } = new Uint8Array(bytes);
  for (const [value, expected] of [
    [bytes, bytes],
    [bytes.subarray(2, 4), [3, 4]],
    [new Uint8Array(buffer, 1, 3), [2, 3, 4]],
    [new Uint16Array(buffer, 2, 2), [3, 4, 5, 6]],
    [new Float64Array(buffer), bytes],
    [new DataView(buffer, 7), [8]],
    [buffer, bytes],
    [new ArrayBuffer(0), []],
    [new Uint8Array(0), []],
    [new BigUint64Array(buffer), bytes],
  ]) {
    const got = echoValue(value);
    assert.ok(Buffer.isBuffer(got));
    assert.deepEqual(got, Buffer.from(expected));
  }
  const large = Buffer.alloc(16 * 1024 * 1024, 7);
  assert.ok(echoValue(large).equals(large));
});

test('what has no counterpart is named, not guessed', () => {
  assert.equal(
    echoValue(() => {}),
    'a function',
  );
  assert.equal(echoValue(Symbol('x')), 'a symbol');
  assert.match(echoValue('half a 🦀: \ud83e'), /lone surrogate/);
  assert.match(echoValue(2n ** 64n), /bigint of 128 bits/);
  for (const value of [new Map([[1, 2]]), new Set(), new Date(), /x/, Promise.resolve()]) {
    assert.equal(echoValue(value), 'an object of a class');
  }
  const round = { a: [] };
  round.a.push(round);
  assert.match(JSON.stringify(echoValue(round)), /nested too deeply/);
  const thrown = new Error('mine');
  const trap = {
    get a() {
      throw thrown;
    },
  };
  assert.throws(
    () => echoValue(trap),
    (error) => error === thrown,
  );
});

test('every kind of event arrives as tests/conformance/echo.json has it', async (t) => {
  const alive = setInterval(() => {}, 1000);
  t.after(() => clearInterval(alive));
  const path = new URL('../../tests/conformance/echo.json', import.meta.url);
  const expected = JSON.parse(readFileSync(path, 'utf8'));
  const got = [];
  let seq = 0n;
  for await (const event of echoEvents(expected.length)) {
    assert.equal(event.seq, (seq += 1n));
    const { seq: _, ...rest } = event;
    got.push(plain(rest));
  }
  assert.deepStrictEqual(got, expected);
});

/** An event or a member as the file writes it. */
function plain(value) {
  if (typeof value === 'bigint') return String(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([name, inner]) => {
    if (name === 'rtt') return ['rtt_us', inner === null ? null : Math.round(inner * 1000)];
    return [snake(name), name === 'tags' ? { ...inner } : plain(inner)];
  });
  return Object.fromEntries(entries);
}

function snake(name) {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

test('a long stream of events comes whole, in order, and ends', async (t) => {
  const alive = setInterval(() => {}, 1000); // a subscription alone does not keep the process alive
  t.after(() => clearInterval(alive));
  let count = 0n;
  for await (const event of echoEvents(100_000)) {
    count += 1n;
    if (event.seq !== count) assert.fail(`${event.seq} after ${count - 1n}`);
  }
  assert.equal(count, 100_000n);
});
