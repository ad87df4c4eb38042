// Plays the scenarios of tests/conformance; see its README for what each step means.
import assert from 'node:assert/strict';
import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { Cluster, PeerageError, generateSecret } from 'peerage';

import { PATIENCE, until } from './support.mjs';

const folder = new URL('../../tests/conformance/scenarios/', import.meta.url);

for (const name of readdirSync(folder)) {
  if (!name.endsWith('.json')) continue;
  const { about, steps } = JSON.parse(readFileSync(new URL(name, folder), 'utf8'));
  test(`${name}: ${about}`, { timeout: 120_000 }, async (t) => {
    const scene = new Scene();
    t.after(() => scene.end());
    for (const [at, step] of steps.entries()) {
      const verb = Object.keys(step).find((key) => key in Scene.prototype);
      const place = `step ${at + 1}: ${JSON.stringify(step).slice(0, 200)}`;
      assert.ok(verb, `${place}: no such verb`);
      try {
        await scene[verb](step[verb]);
      } catch (error) {
        if (!step.error || !(error instanceof PeerageError)) {
          error.message = `${place}: ${error.message}`;
          throw error;
        }
        compare(error, step.error, place);
        continue;
      }
      assert.ok(!step.error, `${place}: succeeds`);
    }
  });
}

function compare(error, { code, fields, message }, place) {
  assert.equal(error.code, code, `${place}: ${error.message}`);
  if (fields) {
    const wrong = new Set(error.details.fields.map((field) => field.field));
    assert.deepEqual([...wrong].sort(), fields.map(camel).sort(), place);
  }
  if (message) assert.ok(error.message.includes(message), `${place}: ${error.message}`);
}

class Scene {
  nodes = new Map();
  subscriptions = new Map();
  keeps = new Map();
  streams = new Map();
  folder = mkdtempSync(join(tmpdir(), 'peerage-'));
  secrets = { '@secret': generateSecret(), '@other-secret': generateSecret() };

  async end() {
    for (const node of this.nodes.values()) await node.shutdownNow().catch(() => {});
    rmSync(this.folder, { recursive: true });
  }

  async start({ node, config = {} }) {
    const given = { cluster: 'conformance', nodeId: node, secret: this.secrets['@secret'] };
    for (const [name, value] of Object.entries(config)) given[camel(name)] = this.value(value);
    this.nodes.set(node, await Cluster.start(given));
  }

  copy({ from, to }) {
    const beside = `${this.value(to)}.new`;
    copyFileSync(this.value(from), beside);
    renameSync(beside, this.value(to));
  }

  damage({ dir }) {
    writeFileSync(join(this.value(dir), 'node.peerage'), 'damaged');
  }

  join({ node, deadline }) {
    return this.nodes.get(node).join({ deadline: duration(deadline) });
  }

  members({ node, expect }) {
    return this.see(expect, () =>
      Object.fromEntries(
        this.nodes
          .get(node)
          .members()
          .map((m) => [m.id, m.state]),
      ),
    );
  }

  get({ node, id, expect }) {
    return this.see(expect, () => {
      const member = this.nodes.get(node).get(id);
      if (member === undefined || expect === null) return member ?? null;
      return Object.fromEntries(Object.keys(expect).map((name) => [name, member[name]]));
    });
  }

  members_with({ node, tags, expect }) {
    return this.see(expect, () =>
      this.nodes
        .get(node)
        .membersWith(tags)
        .map((m) => m.id),
    );
  }

  set_tags({ node, tags }) {
    return this.nodes.get(node).setTags(tags);
  }

  set_secrets({ node, secrets }) {
    this.nodes.get(node).setSecrets(this.value(secrets));
  }

  reload_certificates({ node }) {
    return this.nodes.get(node).reloadCertificates();
  }

  update_tag({ node, key, value }) {
    return this.nodes.get(node).updateTag(key, value);
  }

  async update_tags_at_once({ node, tags }) {
    const one = ([key, value]) => this.nodes.get(node).updateTag(key, value);
    await Promise.all(Object.entries(tags).map(one));
  }

  async remove_tag({ node, key, expect }) {
    assert.equal(await this.nodes.get(node).removeTag(key), expect);
  }

  async explain({ node, id, expect }) {
    const found = await this.nodes.get(node).explain(id);
    if (expect === null) {
      assert.equal(found, null);
      return;
    }
    const { state, history, observers, phi, heard, refuteWithin } = found;
    assert.equal(found.id, id);
    assert.deepEqual({ state, begins: history[0].what, ends: history.at(-1).what }, expect);
    history.forEach((happened, at) => {
      assert.ok(at === 0 || happened.ago <= history[at - 1].ago);
      happened.observers.forEach(sound);
    });
    observers.forEach(sound);
    soundPhi(phi);
    for (const time of [heard, refuteWithin]) assert.ok(time === null || time >= 0, `${time}`);
  }

  handle({ node, topic, does }) {
    const kept = [];
    const handlers = {
      echo: (request) => request.payload,
      from: (request) => request.from,
      fail: () => {
        throw new Error('told to fail');
      },
      never: () => new Promise(() => {}),
      keep: (request) => void kept.push(request.payload),
    };
    this.nodes.get(node).handle(topic, handlers[does]);
    this.keeps.set(JSON.stringify([node, topic]), kept);
  }

  unhandle({ node, topic, expect }) {
    assert.equal(this.nodes.get(node).unhandle(topic), expect);
  }

  async request({ node, target, topic, payload, deadline, expect }) {
    const options = { deadline: duration(deadline) };
    const answer = await this.nodes.get(node).request(target, topic, bytes(payload), options);
    if (expect) assert.ok(answer.equals(bytes(expect)), `the answer is ${answer}`);
  }

  async cancelled_request({ node, target, topic, payload }) {
    const controller = new AbortController();
    const { signal } = controller;
    const request = this.nodes.get(node).request(target, topic, bytes(payload), { signal });
    const end = request.then(
      () => assert.fail('it was answered'),
      (error) => error,
    );
    await until('it is there', () => this.nodes.get(target).stats().requestsIn === 1);
    controller.abort();
    assert.equal(await end, signal.reason);
  }

  handle_streams({ node, topic, does }) {
    const handlers = {
      echo: async (stream) => {
        for await (const chunk of stream) await stream.write(chunk);
        await stream.finish();
      },
      fail: async () => {
        throw new Error('told to fail');
      },
      give_up: (stream) => {
        stream.reset(7);
        stream.stop(8);
      },
      leave_unfinished: () => {},
      ignore: () => new Promise(() => {}),
    };
    this.nodes.get(node).handleStreams(topic, handlers[does]);
  }

  unhandle_streams({ node, topic, expect }) {
    assert.equal(this.nodes.get(node).unhandleStreams(topic), expect);
  }

  async open_stream({ node, target, topic, as, deadline }) {
    const options = { deadline: duration(deadline) };
    this.streams.set(as, await this.nodes.get(node).openStream(target, topic, options));
  }

  write({ stream, payload, deadline }) {
    const options = { deadline: duration(deadline) };
    return this.streams.get(stream).write(bytes(payload), options);
  }

  async write_until_it_fails({ stream }) {
    for (;;) await this.streams.get(stream).write(Buffer.alloc(1000));
  }

  sent({ stream, expect }) {
    assert.equal(this.streams.get(stream).sent, expect);
  }

  finish({ stream }) {
    return this.streams.get(stream).finish();
  }

  async read({ stream, deadline, expect }) {
    const [expected, chunks] = [bytes(expect), []];
    for (let left = expected.length; left > 0; left -= chunks.at(-1).length) {
      chunks.push(await this.streams.get(stream).read({ deadline: duration(deadline) }));
      assert.notEqual(chunks.at(-1), null, 'the end comes early');
    }
    assert.ok(Buffer.concat(chunks).equals(expected), 'others were read');
  }

  async read_end({ stream }) {
    assert.equal(await this.streams.get(stream).read(), null);
  }

  reset({ stream, code }) {
    this.streams.get(stream).reset(code);
  }

  stop({ stream, code }) {
    this.streams.get(stream).stop(code);
  }

  close_stream({ stream }) {
    this.streams.get(stream).close();
  }

  send({ node, target, topic, payload, deadline }) {
    const options = { deadline: duration(deadline) };
    return this.nodes.get(node).send(target, topic, bytes(payload), options);
  }

  kept({ node, topic, expect }) {
    const kept = this.keeps.get(JSON.stringify([node, topic]));
    return this.see(
      expect.map((payload) => bytes(payload).toString('hex')),
      () => kept.map((payload) => payload.toString('hex')),
    );
  }

  subscribe({ node, as }) {
    this.subscriptions.set(as, this.nodes.get(node).events());
  }

  async events({ subscription, expect }) {
    for (const wanted of expect) await this.expected(subscription, wanted);
  }

  /** The next event, which is this one. */
  async expected(subscription, wanted) {
    const passed = ['LocalHealthChanged', 'HealthCheckFailed'].filter((kind) => kind !== wanted[0]);
    let event;
    do event = await this.next(subscription);
    while (passed.includes(event?.kind));
    assert.deepEqual([event?.kind, event?.member?.id ?? null], wanted);
    return event;
  }

  async evidence({ subscription, expect, observers }) {
    const event = await this.expected(subscription, expect);
    const ids = event.observers.map(({ observer }) => observer);
    assert.ok(ids.length > 0);
    assert.equal(new Set(ids).size, ids.length);
    for (const id of ids) assert.ok(observers.includes(id), id);
    event.observers.forEach(sound);
  }

  async ended({ subscription }) {
    while ((await this.next(subscription)) !== undefined);
  }

  async dropped({ subscription, members }) {
    const event = await this.next(subscription);
    assert.equal(event.kind, 'EventsDropped');
    assert.ok(event.count > 0n);
    const found = event.members.map((member) => [member.id, { ...member.tags }]);
    assert.deepEqual(Object.fromEntries(found), members);
  }

  stats({ node, expect }) {
    return this.see(expect, () => {
      const stats = this.nodes.get(node).stats();
      return Object.fromEntries(Object.keys(expect).map((name) => [name, stats[camel(name)]]));
    });
  }

  link({ node, id, expect }) {
    return this.see(expect, () => {
      const links = this.nodes
        .get(node)
        .stats()
        .links.filter((link) => link.id === id);
      if (links.length !== 1) return links.length === 0 ? null : links;
      const [link] = links;
      const { rtt, heard, idle, packetsSent, packetsReceived } = link;
      const sound =
        (rtt === null || rtt > 0) &&
        heard >= 0 &&
        idle >= 0 &&
        packetsSent > 0 &&
        packetsReceived > 0;
      if (!sound || expect === null) return link;
      return Object.fromEntries(Object.keys(expect).map((name) => [name, link[camel(name)]]));
    });
  }

  async leave({ node, complete }) {
    const { phases } = await this.nodes.get(node).leave();
    assert.equal(
      phases.every((phase) => phase.complete),
      complete,
      JSON.stringify(phases),
    );
  }

  async shutdown({ node }) {
    await this.nodes.get(node).shutdownNow();
  }

  closed({ node, code }) {
    return this.see(code, () => this.nodes.get(node).closed?.code);
  }

  async next(subscription) {
    const stream = this.subscriptions.get(subscription);
    let late;
    const deadline = new Promise((_, reject) => {
      late = setTimeout(() => reject(new Error('no event comes')), PATIENCE);
    });
    const { value } = await Promise.race([stream.next(), deadline]);
    clearTimeout(late);
    return value;
  }

  /** Looks until it is as expected. */
  async see(expected, look) {
    let found;
    const holds = () => {
      found = look();
      try {
        assert.deepEqual(found, expected);
        return true;
      } catch {
        return false;
      }
    };
    await until('it is as expected', holds).catch(() => assert.deepEqual(found, expected));
  }

  value(given) {
    if (Array.isArray(given)) return given.map((inner) => this.value(inner));
    if (typeof given === 'string' && given in this.secrets) return this.secrets[given];
    if (typeof given === 'string' && given.startsWith('@certificates/')) {
      const made = process.env.PEERAGE_CERTIFICATES;
      assert.ok(made, 'run this by `cargo xtask test`, which makes certificates');
      return join(made, given.slice(14));
    }
    if (typeof given === 'string' && given.startsWith('@dir/'))
      return join(this.folder, given.slice(5));
    if (typeof given === 'string' && given.startsWith('@'))
      return this.nodes.get(given.slice(1)).addr;
    return duration(given);
  }
}

/** An observation is as the README says. */
function sound({ observer, phi, missedProbes, direction, healthScore }) {
  assert.equal(typeof observer, 'string');
  soundPhi(phi);
  assert.ok(Number.isInteger(missedProbes) && missedProbes >= 0, `${missedProbes}`);
  assert.ok(['fromMember', 'toMember', 'both', 'unknown'].includes(direction), direction);
  assert.ok(Number.isInteger(healthScore) && healthScore >= 0 && healthScore <= 8);
}

function soundPhi(phi) {
  assert.ok(phi === null || (phi >= 0 && phi <= 1000), `${phi}`);
}

/** `{"ms": 500}` is 500 here; anything else stands for itself. */
function duration(given) {
  const isDuration = typeof given === 'object' && given !== null && 'ms' in given;
  return isDuration ? given.ms : given;
}

function bytes({ text, hex, repeat }) {
  if (repeat) return Buffer.alloc(repeat[1], repeat[0]);
  return hex === undefined ? Buffer.from(text) : Buffer.from(hex, 'hex');
}

function camel(name) {
  return name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
}
