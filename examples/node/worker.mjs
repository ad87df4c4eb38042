// A worker: joins the cluster, announces what it can do, and answers requests until it is told
// to leave (the line `leave`, or the end, on standard input). Told `ask <id>`, it asks that member
// for work itself, by a request and over a stream. The same program as examples/src/bin/worker.rs.
//
//   PEERAGE_SECRET=… node worker.mjs --id w1 --seed 127.0.0.1:7000 --tag role=worker
import { buffer } from 'node:stream/consumers';

import { Cluster } from 'peerage';

import { JOIN_DEADLINE, nodeConfig, toldToLeave } from './node.mjs';
import { Report } from './report.mjs';
import { TOPIC, checksum } from './work.mjs';

const config = nodeConfig();
const cluster = await Cluster.start(config);
// Before joining: whoever sees us in the cluster may ask at once.
cluster.handle(TOPIC, work);
cluster.handleStreams(TOPIC, workOn);

const report = new Report();
report.ready(cluster);
const views = report.views(cluster);

if (config.seeds.length > 0) await cluster.join({ deadline: JOIN_DEADLINE });
// A node that was stopped from within (another one took our name, say) must not idle on.
const ended = views.then(() => 'ended');
if ((await Promise.race([toldToLeave(ask), ended])) === 'ended') {
  throw new Error('the cluster has ended', { cause: cluster.closed });
}
const left = await cluster.leave();
console.error(`${config.nodeId}:`, left);

/** Asks another worker, as the director does, and reports how it went. */
async function ask(target) {
  const payload = Buffer.from(`from ${config.nodeId}`);
  try {
    const answers = [await cluster.request(target, TOPIC, payload)];
    answers.push(await askOverStream(target, payload));
    const right = answers.every((answer) => answer.equals(done(payload)));
    report.asked(target, right ? null : 'a wrong answer');
  } catch (error) {
    report.asked(target, error.code);
  }
}

/** The payload in two pieces, and the answer once they have ended. */
async function askOverStream(target, payload) {
  const stream = await cluster.openStream(target, TOPIC);
  const half = payload.length >> 1;
  for (const piece of [payload.subarray(0, half), payload.subarray(half)]) {
    await stream.write(piece, { deadline: JOIN_DEADLINE });
  }
  await stream.finish({ deadline: JOIN_DEADLINE });
  return buffer(stream);
}

/** What a worker does for others. */
function work(request) {
  if (request.payload.length === 0) throw new Error('there is nothing to do');
  return done(request.payload);
}

/** The same over a stream. */
async function workOn(stream) {
  await stream.write(done(await buffer(stream)));
  await stream.finish();
}

function done(payload) {
  const answer = Buffer.alloc(8);
  answer.writeBigUInt64BE(checksum(payload));
  return answer;
}
