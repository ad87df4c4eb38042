// Events a second from the core into JavaScript: `for await` over the core's sample events, which
// is the way that cluster.events() takes as well. Prints {"node_eps": <median of the runs>}.
//
//   node bindings-node/bench/events.mjs [events] [runs]
import { createRequire } from 'node:module';

const { echoEvents } = createRequire(import.meta.url)('../dist/echo.js');

const [count = 2_000_000, runs = 5] = process.argv.slice(2).map(Number);
// A subscription alone does not keep the process alive.
const alive = setInterval(() => {}, 1 << 30);

async function run() {
  const since = performance.now();
  let heard = 0;
  let members = 0;
  for await (const event of echoEvents(count)) {
    heard += 1;
    if ('member' in event) members += event.member.id.length;
  }
  const took = performance.now() - since;
  if (heard !== count || members === 0) throw new Error(`${heard} events of ${count} were heard`);
  return (heard / took) * 1000;
}

await run(); // the first one compiles
const rates = [];
for (let left = runs; left > 0; left--) rates.push(await run());
rates.sort((a, b) => a - b);
console.log(JSON.stringify({ node_eps: Math.round(rates[rates.length >> 1]) }));
clearInterval(alive);
