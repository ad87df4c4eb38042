// Streams, against a real second node.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Stream } from 'peerage';

import { PATIENCE, failure, pair, until } from './support.mjs';

const patient = { deadline: PATIENCE };

async function echo(stream) {
  for await (const chunk of stream) await stream.write(chunk, patient);
  await stream.finish(patient);
}

const pattern = (length) => Buffer.from(Uint8Array.from({ length }, (_, at) => at / 7));

function nothingIsOpen({ a, b }) {
  return until('nothing is open', () =>
    [a, b].every((node) => node.stats().streamsIn + node.stats().streamsOut === 0),
  );
}

test('a stream both ways, and each direction ends on its own', async (t) => {
  const { a, b } = await pair(t);
  a.handleStreams('echo', echo);
  for (const from of [b, a]) {
    const stream = await from.openStream('a', 'echo', patient);
    assert.ok(stream instanceof Stream);
    assert.deepEqual([stream.peer, stream.topic, stream.sent], ['a', 'echo', 0]);
    await stream.write('grüße');
    assert.equal(String(await stream.read(patient)), 'grüße');
    await stream.write('');
    await stream.write(new Uint8Array([1, 2]).buffer);
    assert.deepEqual(await stream.read(), Buffer.from([1, 2]));
    assert.equal(stream.sent, 9);
    await stream.finish(patient);
    assert.equal((await failure(stream.write('more'))).code, 'Argument');
    assert.equal(await stream.read(), null);
    assert.equal(await stream.read(), null);
    stream.close();
  }
  await nothingIsOpen({ a, b });
});

test('much at once, without waiting between the writes', async (t) => {
  const { a, b } = await pair(t);
  a.handleStreams('echo', echo);
  const stream = await b.openStream('a', 'echo');
  const whole = pattern(4 << 20);
  const writes = [];
  for (let at = 0; at < whole.length; at += 50_000) {
    writes.push(stream.write(whole.subarray(at, at + 50_000), patient));
  }
  writes.push(stream.finish(patient));
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  await Promise.all(writes);
  assert.ok(Buffer.concat(chunks).equals(whole), 'everything came, in order');
  stream.close();
});

test('a gibibyte through one stream in flat memory', async (t) => {
  const { a, b } = await pair(t);
  a.handleStreams('count', async (stream) => {
    let length = 0;
    for await (const chunk of stream) {
      assert.equal(chunk[0], length % 256);
      length += chunk.length;
    }
    await stream.write(String(length), patient);
    await stream.finish(patient);
  });
  const stream = await b.openStream('a', 'count', patient);
  const piece = Buffer.from(Uint8Array.from({ length: 1 << 20 }, (_, at) => at));
  // The buffers of the stack and the heap of chunks are warm after these.
  for (let n = 0; n < 128; n += 1) await stream.write(piece, patient);
  const before = process.memoryUsage.rss();
  let most = before;
  while (stream.sent < 2 ** 30) {
    await stream.write(piece, patient);
    most = Math.max(most, process.memoryUsage.rss());
  }
  await stream.finish(patient);
  const answer = await buffer(stream);
  assert.equal(String(answer), String(2 ** 30));
  const grown = (most - before) / 2 ** 20;
  // Chunks that nobody holds any more stay until the next collection.
  assert.ok(grown <= 128, `grown by ${grown} MiB`);
  stream.close();
});

test("as one of Node's own streams", async (t) => {
  const { a, b } = await pair(t);
  a.handleStreams('echo', async (stream) => {
    const duplex = stream.toDuplex();
    duplex.pipe(duplex);
    await once(duplex, 'close');
  });
  const duplex = (await b.openStream('a', 'echo')).toDuplex();
  assert.ok(duplex instanceof Duplex);
  const whole = pattern(1 << 20);
  duplex.end(whole);
  assert.ok((await buffer(duplex)).equals(whole));
  await nothingIsOpen({ a, b });

  const destroyed = (await b.openStream('a', 'echo')).toDuplex();
  destroyed.destroy();
  await nothingIsOpen({ a, b });
});

test('codes and messages reach the other end', async (t) => {
  const { a, b } = await pair(t);
  const ends = [];
  a.handleStreams('end', async (stream) => void ends.push(await failure(stream.read())));
  a.handleStreams('give up', (stream) => {
    stream.reset(7);
    stream.stop(8);
  });
  a.handleStreams('unfinished', () => {});
  a.handleStreams('throw', () => {
    throw new Error('thrown: größe');
  });
  a.handleStreams('reject', async () => {
    await sleep(1);
    throw new Error('rejected');
  });
  const read = async (topic) => {
    const stream = await b.openStream('a', topic);
    const error = await failure(stream.read());
    stream.close();
    return error;
  };
  const { code, details } = await read('give up');
  assert.deepEqual([code, details], ['StreamReset', { target: 'a', code: 7 }]);
  assert.equal((await read('unfinished')).details.code, 4294967295);
  for (const [topic, message] of [
    ['throw', 'thrown: größe'],
    ['reject', 'rejected'],
  ]) {
    const error = await read(topic);
    assert.deepEqual([error.code, error.details.message], ['Handler', message]);
  }
  const stopped = await b.openStream('a', 'give up');
  const error = await failure(async () => {
    for (;;) await stopped.write('x');
  });
  assert.deepEqual([error.code, error.details.code], ['StreamReset', 8]);
  stopped.close();

  const given = await b.openStream('a', 'end');
  given.reset(2147483647);
  await until('it is heard', () => ends.length === 1);
  assert.equal(ends[0].details.code, 2147483647);
  given.close();
  const left = await b.openStream('a', 'end');
  await left[Symbol.asyncDispose](); // what `await using` does
  await until('it is heard', () => ends.length === 2);
  assert.equal(ends[1].details.code, 4294967295);
  await nothingIsOpen({ a, b });
});

test('who does not read: deadlines, signals, and a stream that goes on', async (t) => {
  const { a, b } = await pair(t);
  const taken = [];
  a.handleStreams('ignore', (stream) => {
    taken.push(stream);
    return new Promise((resolve) => (stream.done = resolve));
  });
  const stream = await b.openStream('a', 'ignore');
  await until('it is taken', () => taken.length === 1);
  const late = await failure(stream.write(pattern(1 << 20), { deadline: 1000 }));
  assert.equal(late.code, 'Timeout');
  assert.equal(stream.sent, 65536);
  const controller = new AbortController();
  const { signal } = controller;
  const waiting = failure(stream.write('more', { signal }));
  controller.abort();
  assert.equal(await waiting, signal.reason);
  const readLate = await failure(stream.read({ deadline: 10 }));
  assert.equal(readLate.code, 'Timeout');
  // A reset cuts off what waits.
  const cut = failure(stream.write('more'));
  stream.reset(1);
  assert.equal((await cut).code, 'Cancelled');
  assert.equal((await failure(stream.write('more'))).code, 'Argument');
  const reading = failure(stream.read());
  stream.stop(2);
  assert.equal((await reading).code, 'Cancelled');
  // What was written before the reset may still come, if that is quicker.
  const readOn = async () => {
    while ((await taken[0].read()) !== null);
  };
  assert.equal((await failure(readOn())).details.code, 1);
  stream.close();
  assert.equal((await failure(stream.read())).code, 'Argument');
  taken[0].done();
  await nothingIsOpen({ a, b });
  // A handler's stream is closed with it.
  assert.equal((await failure(taken[0].write('x'))).code, 'Argument');
});

test('a handler that is removed deals with what has come for it', async (t) => {
  const { a, b } = await pair(t);
  let served = 0;
  let taken = 0;
  a.handle('t', () => {
    if (served++ === 0) a.unhandle('t');
    return 'served';
  });
  a.handleStreams('t', async (stream) => {
    if (taken++ === 0) a.unhandleStreams('t');
    await stream.finish(patient);
  });
  const asked = Array.from({ length: 300 }, () =>
    b.request('a', 't', '', patient).then(String, (error) => error.code),
  );
  const read = async (stream) => {
    const end = await stream.read(patient);
    stream.close();
    return end;
  };
  const opened = Array.from({ length: 50 }, () =>
    b
      .openStream('a', 't', patient)
      .then(read)
      .catch((error) => error.code),
  );
  // They all come while this loop does nothing.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
  const answers = new Set(await Promise.all(asked));
  const ends = new Set(await Promise.all(opened));
  assert.ok(served > 1 && taken > 1, `${served} served, ${taken} taken`);
  answers.delete('served');
  ends.delete(null);
  assert.deepEqual(
    [...answers, ...ends].filter((end) => end !== 'UnknownTopic'),
    [],
  );
  await nothingIsOpen({ a, b });
});

test('a read that is aborted has lost nothing', async (t) => {
  const { a, b } = await pair(t);
  const whole = pattern(5000);
  a.handleStreams('drip', async (stream) => {
    for (let at = 0; at < whole.length; at += 5) {
      await stream.write(whole.subarray(at, at + 5), patient);
      if (at % 100 === 0) await sleep(1);
    }
    await stream.finish(patient);
  });
  const stream = await b.openStream('a', 'drip', patient);
  const chunks = [];
  let aborted = 0;
  for (let turn = 0, ended = false; !ended; turn++) {
    const controller = new AbortController();
    const reading = stream.read({ deadline: PATIENCE, signal: controller.signal });
    // At once, when the outcome may be on its way, or a little later.
    if (turn % 3 === 0) controller.abort();
    else if (turn % 3 === 1) setImmediate(() => controller.abort());
    else setTimeout(() => controller.abort(), 1);
    const next = await reading.catch((error) => {
      assert.equal(error, controller.signal.reason);
      aborted++;
      return undefined;
    });
    if (next === null) ended = true;
    else if (next !== undefined) chunks.push(next);
  }
  assert.deepEqual(Buffer.concat(chunks), whole);
  assert.ok(aborted >= 20, `${aborted} aborted`);
  stream.close();
  await nothingIsOpen({ a, b });
});

test('an opening that is aborted leaves nothing', async (t) => {
  const { a, b } = await pair(t);
  a.handleStreams('echo', echo);
  assert.equal(await failure(b.openStream('a', 'echo', { signal: AbortSignal.abort(5) })), 5);
  for (let turn = 0; turn < 50; turn++) {
    const controller = new AbortController();
    const opening = b.openStream('a', 'echo', { signal: controller.signal });
    // Some are open by then, some are not.
    const aborted = sleep(turn % 5).then(() => controller.abort());
    await opening.then(
      (stream) => stream.close(),
      (error) => assert.equal(error, controller.signal.reason),
    );
    await aborted;
  }
  await nothingIsOpen({ a, b });
});

test('what is wrong, and what is refused', async (t) => {
  const { a, b } = await pair(t);
  a.handleStreams('echo', echo);
  const code = async (...args) => (await failure(b.openStream(...args))).code;
  assert.equal(await code('a', 'nothing'), 'UnknownTopic');
  assert.equal(await code('nobody', 'echo'), 'UnknownMember');
  assert.equal(await code('a', ''), 'Argument');
  assert.equal(await code('a', 5), 'Argument');
  assert.equal(await code('a', 'echo', { deadline: 0 }), 'Argument');
  assert.equal((await failure(() => a.handleStreams('echo', echo))).code, 'Argument');
  assert.equal((await failure(() => a.handleStreams('x', 5))).details.fields[0].field, 'handler');
  const stream = await b.openStream('a', 'echo');
  const fields = async (call) => (await failure(call)).details.fields.map((wrong) => wrong.field);
  assert.deepEqual(await fields(stream.write(5)), ['chunk']);
  assert.deepEqual(await fields(stream.write('x', { deadline: -1 })), ['deadline']);
  for (const wrong of [-1, 2147483648, 1.5, 'x', undefined]) {
    assert.deepEqual(await fields(() => stream.reset(wrong)), ['code']);
    assert.deepEqual(await fields(() => stream.stop(wrong)), ['code']);
  }
  assert.equal(a.unhandleStreams('echo'), true);
  assert.equal(a.unhandleStreams('echo'), false);
  assert.equal(await code('a', 'echo'), 'UnknownTopic');
  await stream.write('goes on');
  assert.equal(String(await stream.read(patient)), 'goes on');
  const reading = failure(stream.read());
  await a.shutdownNow();
  assert.ok(['LinkLost', 'StreamReset'].includes((await reading).code));
  await b.leave();
  assert.equal(await code('a', 'echo'), 'Closed');
});
