// Compiled and never run: what a TypeScript program sees of the package.
import { Cluster, Code, PeerageError, Stream, generateSecret } from 'peerage';
import type {
  Config,
  Event,
  Explanation,
  LeaveReport,
  Member,
  MemberFailed,
  Observation,
  Stats,
} from 'peerage';

const config: Config = { cluster: 'c', nodeId: 'n', secret: generateSecret(), payloadMax: 1n };
await using cluster: Cluster = await Cluster.start(config);
await cluster.join({ deadline: 5000, signal: AbortSignal.timeout(5000) });

const answer: Buffer = await cluster.request('other', 'topic', new Uint8Array(1), { deadline: 1 });
cluster.handle('topic', (request) => request.payload.subarray(1));
cluster.handle('later', async ({ from, topic }): Promise<string> => `${from}${topic}`);
cluster.handle('nothing', () => {});

cluster.handleStreams('topic', async (stream) => {
  for await (const chunk of stream) await stream.write(chunk.subarray(1), { deadline: 1 });
  await stream.finish();
});
cluster.handleStreams('given up', (stream) => stream.reset(7));
{
  await using stream: Stream = await cluster.openStream('other', 'topic', { deadline: 1 });
  const chunk: Buffer | null = await stream.read({ signal: AbortSignal.timeout(5) });
  const sent: number = stream.sent;
  stream.toDuplex().end(chunk);
  // @ts-expect-error a code is a number
  stream.stop('7');
  void sent;
}

cluster
  .on('memberFailed', (event) => {
    const failed: MemberFailed = event;
    const observers: readonly Observation[] = failed.observers;
    const phi: number | null | undefined = observers[0]?.phi;
    void phi;
  })
  .once('closed', (reason) => void (reason.code === Code.Closed))
  .off('event', (event: Event) => void event.seq);

for await (const event of cluster.events()) {
  switch (event.kind) {
    case 'EventsDropped': {
      const count: bigint = event.count;
      const members: readonly Member[] = event.members;
      void [count, members];
      break;
    }
    case 'LocalHealthChanged': {
      const score: number = event.score;
      void score;
      break;
    }
    case 'CertificatesReloaded':
    case 'CertificatesRejected':
    case 'StateSetAside': {
      const path: string = event.path;
      void path;
      break;
    }
    case 'CertificateExpiring': {
      const seconds: number = event.secondsLeft;
      void seconds;
      break;
    }
    case 'NameConflict':
      void event.id;
      break;
    default: {
      const { instance, rtt, tags, unresponsive }: Member = event.member;
      const flag: boolean = unresponsive;
      const number: bigint = instance;
      const milliseconds: number | null = rtt;
      const role: string | undefined = tags['role'];
      void [flag, number, milliseconds, role];
    }
  }
}

await cluster.updateTag('role', 'worker');
const removed: boolean = await cluster.removeTag('role');
const explanation: Explanation | null = await cluster.explain('other');
void [removed, explanation?.history[0]?.ago, explanation?.refuteWithin];

const stats: Stats = cluster.stats();
const report: LeaveReport = await cluster.leave();
const error: PeerageError | undefined = cluster.closed;
const code: Code | undefined = error?.code;
const expected: string | undefined = error?.details.fields?.[0]?.expected;
void [answer, stats.requestsOut + 1, report.phases[0]?.took, code, expected];

// @ts-expect-error a field that there is not
void Cluster.start({ ...config, probeIntervall: 5 });
// @ts-expect-error what is required is missing
void Cluster.start({ cluster: 'c' });
// @ts-expect-error a text for a number
void Cluster.start({ ...config, linksMax: '5' });
// @ts-expect-error a name of no event
cluster.on('memberVanished', () => {});
// @ts-expect-error nodes are made by start
void new Cluster();
// @ts-expect-error one tag has a name and a value
void cluster.updateTag('role');
// @ts-expect-error tags are shared and must not be changed
cluster.local.tags['x'] = 'y';
