import { bridge, newNumber, stopWaiting, wait } from './bridge.js';
import type { Waiter } from './bridge.js';
import { event as readEvent } from './generated/readers.js';
import type { Event } from './generated/types.js';
import { native } from './native.js';
import type { NativeSubscription } from './native.js';
import { Reader } from './reader.js';

/** Batches of events from the native half: one wake for each, as late as it is asked for. */
export class Subscription implements Waiter {
  readonly #native: NativeSubscription;
  readonly #id: number;
  #tell: (() => void) | undefined;

  constructor(open: (id: number) => NativeSubscription) {
    this.#id = newNumber();
    this.#native = open(this.#id);
  }

  /** What waits, as a reader of events; nothing once the end has come. */
  take(): Reader | undefined {
    const batch = this.#native.take();
    return batch === null ? undefined : new Reader(batch);
  }

  /** Tells, once, when there is something to take or the end has come. */
  wait(tell: () => void): void {
    this.#tell = tell;
    wait(this.#id, this);
    this.#native.wait();
  }

  isLast(): boolean {
    return this.#native.closed();
  }

  ready(): void {
    const tell = this.#tell;
    this.#tell = undefined;
    tell?.();
  }

  close(): void {
    stopWaiting(this.#id);
    this.#tell = undefined;
    this.#native.close();
  }
}

type Result = IteratorResult<Event, undefined>;

const END: Result = Object.freeze({ value: undefined, done: true });

/**
 * A subscription as an asynchronous iterator: everything from the moment it was made until the
 * node ends. What it does not take waits in the core's bounded queue. It never keeps the process
 * alive. Leaving a `for await` early ends it, and so does `return()`.
 */
export class EventStream implements AsyncIterableIterator<Event, undefined> {
  readonly #subscription: Subscription;
  /** The node must not be collected while somebody listens to it. */
  readonly #owner: unknown;
  #reader: Reader | undefined;
  #ended = false;
  /** Calls of `next` that wait, in their order. */
  readonly #waiting: ((result: Result | Promise<Result>) => void)[] = [];

  /** @internal */
  constructor(subscription: Subscription, owner: unknown) {
    this.#subscription = subscription;
    this.#owner = owner;
  }

  next(): Promise<Result> {
    if (this.#waiting.length === 0) {
      const result = this.#now();
      if (result !== undefined) return Promise.resolve(result);
      this.#subscription.wait(() => this.#serve());
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Ends the subscription. */
  return(): Promise<Result> {
    this.#end();
    return Promise.resolve(END);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  /** The next event or the end, if it is known by now. */
  #now(): Result | undefined {
    if (this.#reader?.more === true) return { value: readEvent(this.#reader), done: false };
    if (this.#ended) return END;
    this.#reader = this.#subscription.take();
    if (this.#reader === undefined) {
      this.#end();
      return END;
    }
    if (this.#reader.more) return { value: readEvent(this.#reader), done: false };
    return undefined;
  }

  #serve(): void {
    while (this.#waiting.length > 0) {
      const result = this.#now();
      if (result === undefined) {
        this.#subscription.wait(() => this.#serve());
        return;
      }
      this.#waiting.shift()?.(result); // nobody is left if that was the end
    }
  }

  #end(): void {
    // eslint-disable-next-line @typescript-eslint/no-meaningless-void-operator -- it is there to be held
    void this.#owner;
    this.#ended = true;
    this.#reader = undefined;
    this.#subscription.close();
    for (const resolve of this.#waiting.splice(0)) resolve(END);
  }
}

/** The core's sample events, over and over: for tests and benchmarks. */
export function echoEvents(count: number): EventStream {
  return new EventStream(echoSubscription(count), undefined);
}

export function echoSubscription(count: number): Subscription {
  return new Subscription((id) => native.echoEvents(bridge, id, count));
}
