/** Every value both ways without a network: for tests and benchmarks, and no part of the API. */
import { attempt } from './error.js';
import { native } from './native.js';

export { echoEvents, echoSubscription } from './events.js';

export function echoValue(value: unknown): unknown {
  return attempt(() => native.echoValue(value));
}
