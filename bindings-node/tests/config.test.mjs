// Every configuration field wrong once, by the generated table: the same code, the same name.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import { Cluster, Code, PeerageError } from 'peerage';

import { failure } from './support.mjs';

const { CONFIG_FIELDS } = createRequire(import.meta.url)('../dist/generated/tables.js');
const right = { cluster: 'c', nodeId: 'n', insecure: true };

async function refused(config, field, besides = []) {
  const error = await failure(Cluster.start(config));
  assert.ok(error instanceof PeerageError, `${field}: ${error}`);
  assert.equal(error.code, Code.Config, field);
  const fields = new Set(error.details.fields.map((wrong) => wrong.field));
  for (const other of besides) if (other !== field) fields.delete(other);
  assert.deepEqual([...fields], [field]);
  assert.ok(error.message.includes(field), error.message);
}

test('every field of a wrong type is refused by its name', async (t) => {
  assert.ok(CONFIG_FIELDS.length > 30);
  for (const { name } of CONFIG_FIELDS) {
    await t.test(name, async () => {
      for (const value of [() => {}, Symbol(), new Date(), new Map()]) {
        await refused({ ...right, [name]: value }, name);
      }
    });
  }
});

test('every bounded field out of its bounds is refused by its name', async (t) => {
  for (const { name, min, max } of CONFIG_FIELDS) {
    if (min === undefined) continue;
    await t.test(name, async () => {
      const values = [max + 1, NaN, Infinity, 'a text', '', 2n ** 70n, 1e300];
      if (min > 0) values.push(min - 1);
      values.push(-1);
      // `probeTimeout` must also be below `probeInterval`, whichever of the two was given.
      for (const value of values)
        await refused({ ...right, [name]: value }, name, ['probeTimeout']);
    });
  }
});

test('all that is wrong is in one error, and unknown names are told', async () => {
  const error = await failure(
    Cluster.start({ cluster: 1, probeIntervall: 5, linksMax: 3.5, tags: { a: 1 }, seeds: 'x' }),
  );
  const fields = error.details.fields.map((wrong) => wrong.field);
  assert.deepEqual(
    fields.sort(),
    ['cluster', 'linksMax', 'nodeId', 'probeIntervall', 'security', 'seeds', 'tags'].sort(),
  );
  assert.match(error.message, /did you mean probeInterval\?/);
  for (const config of [undefined, null, {}]) {
    const error = await failure(Cluster.start(config));
    assert.deepEqual(
      error.details.fields.map((wrong) => wrong.field),
      ['cluster', 'nodeId', 'security'],
    );
  }
  assert.equal((await failure(Cluster.start(5))).code, Code.Config);
  const secret = await failure(Cluster.start({ cluster: 'c', nodeId: 'n', secret: 'tooshort' }));
  assert.doesNotMatch(secret.message, /tooshort/);
});

test('what stands at its bounds is accepted', async () => {
  const config = { ...right };
  for (const { name, default: value, kind } of CONFIG_FIELDS) {
    if (value !== undefined) config[name] = kind === 'bytes' ? BigInt(value) : value;
  }
  config.advertise = undefined;
  config.ca = null;
  const node = await Cluster.start(config);
  const taken = await failure(Cluster.start({ ...right, listen: node.addr }));
  assert.equal(taken.code, Code.Bind);
  assert.equal(taken.details.addr, node.addr);
  await node.leave();
});
