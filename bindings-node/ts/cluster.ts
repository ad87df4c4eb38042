import { EventEmitter } from 'node:events';

import {
  addHandler,
  addTaker,
  bridge,
  call,
  guarded,
  keep,
  removeHandler,
  retireHandler,
  watch,
} from './bridge.js';
import type { Handler, Payload, Watcher } from './bridge.js';
import { PeerageError, attempt, fromJson } from './error.js';
import { EventStream, Subscription } from './events.js';
import { event as readEvent, member, stats } from './generated/readers.js';
import { EVENT_NAMES } from './generated/tables.js';
import type {
  Config,
  Event,
  EventsByName,
  Explanation,
  LeaveReport,
  Member,
  Stats,
  Tags,
} from './generated/types.js';
import type { NativeCluster, NativeStream } from './native.js';
import { Reader } from './reader.js';
import { Stream } from './stream.js';
import type { StreamHandler } from './stream.js';

/** As it is when we are loaded: tests of programs put other clocks in its place. */
const nextTurn = setImmediate;

/** What `on` hears: every kind of event by its name, all of them, and the end. */
export interface ClusterEvents extends EventsByName {
  /** Every event. */
  event: [event: Event];
  /** The node has ended, and every event before that was heard. */
  closed: [reason: PeerageError];
}

export interface JoinOptions {
  /** Milliseconds; without it, the configured `joinTimeout`. */
  readonly deadline?: number | undefined;
  /** Ends the call early; it rejects with the signal's reason. The node runs on. */
  readonly signal?: AbortSignal | null | undefined;
}

export interface RequestOptions {
  /** Milliseconds for everything; without it, the configured `requestTimeout`. */
  readonly deadline?: number | undefined;
  /** Ends the call early, on the other node too; it rejects with the signal's reason. */
  readonly signal?: AbortSignal | null | undefined;
}

/**
 * A running node. It keeps the process alive until it has ended, unless `unref()` was called;
 * subscriptions and handlers alone never do.
 *
 * A blocked event loop costs no heartbeat, since the core has threads of its own. If it does not
 * respond for `unresponsiveAfter`, the others see this member as `unresponsive`, and nobody
 * suspects it.
 *
 * Everything that a call says to be wrong is a `PeerageError` with a `code`.
 */
export class Cluster {
  readonly #native: NativeCluster;
  readonly #emitter = new EventEmitter();
  /** Handlers by topic, as the bridge numbers them. */
  readonly #handlers = new Map<string, number>();
  /** The same for streams. */
  readonly #takers = new Map<string, number>();
  /** Feeds the emitter, while it has listeners. */
  #heard: Subscription | undefined;
  #isEnded = false;

  private constructor(native: NativeCluster, number: number) {
    this.#native = native;
    // `once` takes its listener away by itself.
    this.#emitter.on('removeListener', () => this.#listen());
    keep(this, true);
    watch(number, Cluster.#watcher(new WeakRef(this)));
  }

  /**
   * Checks the configuration, binds the socket and starts the node, which begins to join its
   * seeds in the next turn of the event loop: handlers and subscriptions that are added until then
   * miss nothing. `join` waits for that. On an error nothing is left behind.
   */
  static async start(config: Config): Promise<Cluster> {
    let number = 0;
    await call<void>((id) => bridge.start((number = id), config));
    const started = bridge.started(number);
    if (started === null) throw new PeerageError('Closed', 'the environment has ended');
    nextTurn(() => started.open());
    return new Cluster(started, number);
  }

  /**
   * Waits until one of the configured seeds has admitted us; at once without seeds. Fails early
   * when every seed refuses us for good, else with `JoinFailed` at the deadline; the node runs on
   * and keeps trying.
   */
  join(options?: JoinOptions): Promise<void> {
    return call((id) => this.#native.join(bridge, id, options?.deadline), options?.signal);
  }

  /**
   * Leaves: announces it and waits until that has spread (at most `leaveTimeout`), lets requests
   * under way finish (at most `drainTimeout`), closes everything. A second call gets the same
   * report.
   */
  leave(): Promise<LeaveReport> {
    return call((id) => this.#native.leave(bridge, id));
  }

  /** Stops at once, without a goodbye and without waiting for requests. */
  shutdownNow(): Promise<LeaveReport> {
    return call((id) => this.#native.shutdownNow(bridge, id));
  }

  /** Leaves, at the end of an `await using` block. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.leave();
  }

  /** This node as the others see it. */
  get local(): Member {
    return member(new Reader(this.#native.local()));
  }

  /** The address that is announced to others. */
  get addr(): string {
    return this.#native.addr();
  }

  /** The address that the socket is bound to; differs from `addr` where `advertise` was given. */
  get boundAddr(): string {
    return this.#native.boundAddr();
  }

  /**
   * All members in order of their ids: ourselves, the live, and the dead until they are forgotten.
   */
  members(): Member[] {
    return new Reader(this.#native.members()).list(member);
  }

  /** What is known about one node. */
  get(id: string): Member | undefined {
    return new Reader(attempt(() => this.#native.get(id))).list(member)[0];
  }

  /** The alive members that announce all the given tags with exactly these values. */
  membersWith(tags: Tags): Member[] {
    return new Reader(attempt(() => this.#native.membersWith(tags))).list(member);
  }

  /** Announces these tags in place of the present ones. */
  setTags(tags: Tags): Promise<void> {
    return call((id) => this.#native.setTags(bridge, id, tags));
  }

  /**
   * Announces one tag, or another value of it, and leaves the others as they are, also those that
   * are changed at the same time.
   */
  updateTag(key: string, value: string): Promise<void> {
    return call((id) => this.#native.updateTag(bridge, id, key, value));
  }

  /** Announces one tag no more. Whether it was announced. */
  removeTag(key: string): Promise<boolean> {
    return call((id) => this.#native.removeTag(bridge, id, key));
  }

  /**
   * Changes the secrets while the node runs: from now on it proves itself by the first, and
   * believes whoever holds any of them (1 to 8). Links made with another first secret are made anew
   * at once, for all requests, messages and streams to come. A link made with a secret that is not
   * among these is closed within 5 s: what is still under way on it, such as a stream opened before,
   * ends with `LinkLost`. So a secret is replaced without an interruption in three steps, each on
   * all nodes before the next: `[old, new]`, `[new, old]`, `[new]`.
   */
  setSecrets(secrets: readonly string[]): void {
    attempt(() => {
      this.#native.setSecrets(secrets);
    });
  }

  /**
   * Reads the PEM files again, which the node does by itself within two seconds after they were
   * changed. Where they cannot be used this rejects with what is wrong, and those before stay.
   */
  reloadCertificates(): Promise<void> {
    return call((id) => {
      this.#native.reloadCertificates(bridge, id);
    });
  }

  /**
   * What is known about another node and how we came to know it: who observed what, and what
   * happened to it before. Nothing about ourselves, and about one that was forgotten.
   */
  explain(id: string): Promise<Explanation | null> {
    return call((number) => this.#native.explain(bridge, number, id));
  }

  /**
   * Asks a live member and waits for its handler's answer. An aborted request is cancelled on both
   * sides.
   */
  request(
    target: string,
    topic: string,
    payload?: Payload | null,
    options?: RequestOptions,
  ): Promise<Buffer> {
    return call(
      (id) => this.#native.request(bridge, id, target, topic, payload, options?.deadline),
      options?.signal,
    );
  }

  /**
   * Sends a live member a message that its handler gets like a request, without an answer.
   * Resolves when the link has taken the message whole; nobody says whether it was handled. While
   * the member does not read, that waits until the deadline: a short one fails rather than waits.
   * What has not gone by then, or when the signal is aborted, is taken back.
   */
  send(
    target: string,
    topic: string,
    payload?: Payload | null,
    options?: RequestOptions,
  ): Promise<void> {
    return call(
      (id) => this.#native.send(bridge, id, target, topic, payload, options?.deadline),
      options?.signal,
    );
  }

  /**
   * Handles requests and messages for a topic (1 to 256 bytes). What the handler throws, or
   * rejects with, reaches the caller as `Handler`. A topic has one handler.
   */
  handle(topic: string, handler: Handler): void {
    checkFunction(handler);
    const number = addHandler(handler, this, (id) => this.#native.handle(bridge, topic, id));
    this.#handlers.set(topic, number);
  }

  /** Stops handling a topic; requests under way are finished. Whether it was handled. */
  unhandle(topic: string): boolean {
    const handled = attempt(() => this.#native.unhandle(topic));
    const number = this.#handlers.get(topic);
    if (number !== undefined) retireHandler(number);
    this.#handlers.delete(topic);
    return handled;
  }

  /**
   * Opens a stream to a live member; resolves when that has taken it. The deadline and the signal
   * are for the opening.
   */
  async openStream(target: string, topic: string, options?: RequestOptions): Promise<Stream> {
    const native = await call<NativeStream>(
      (id) => this.#native.openStream(bridge, id, target, topic, options?.deadline),
      options?.signal,
    );
    return new Stream(native);
  }

  /**
   * Handles the streams that others open for a topic (1 to 256 bytes). A stream is closed when the
   * handler's promise is settled. What the handler throws, or rejects with, reaches the opener as
   * `Handler`, unless it closed the stream before. A topic has one handler for streams, and another
   * one for requests.
   */
  handleStreams(topic: string, handler: StreamHandler): void {
    checkFunction(handler);
    const taken = (native: NativeStream): unknown => handler(new Stream(native));
    const number = addTaker(taken, this, (id) => this.#native.handleStreams(bridge, topic, id));
    this.#takers.set(topic, number);
  }

  /** Stops handling the streams of a topic; those that are open go on. Whether it was handled. */
  unhandleStreams(topic: string): boolean {
    const handled = attempt(() => this.#native.unhandleStreams(topic));
    const number = this.#takers.get(topic);
    if (number !== undefined) retireHandler(number);
    this.#takers.delete(topic);
    return handled;
  }

  /**
   * Everything that happens from now on. Take it before `members()` so that nothing falls between.
   * Who is too slow gets `EventsDropped` with all members in place of what it missed.
   */
  events(): EventStream {
    return new EventStream(this.#subscribe(), this);
  }

  /** Calls the listener for each event of that name, from now on. */
  on<K extends keyof ClusterEvents>(name: K, listener: (...args: ClusterEvents[K]) => void): this {
    this.#emitter.on(name, listener as (...args: unknown[]) => void);
    this.#listen();
    return this;
  }

  /** Calls the listener for the next event of that name. */
  once<K extends keyof ClusterEvents>(
    name: K,
    listener: (...args: ClusterEvents[K]) => void,
  ): this {
    this.#emitter.once(name, listener as (...args: unknown[]) => void);
    this.#listen();
    return this;
  }

  /** Calls the listener no more. */
  off<K extends keyof ClusterEvents>(name: K, listener: (...args: ClusterEvents[K]) => void): this {
    this.#emitter.off(name, listener as (...args: unknown[]) => void);
    return this;
  }

  /** Counters and gauges. */
  stats(): Stats {
    return stats(new Reader(this.#native.stats()));
  }

  /** Why the node ended, once it has. */
  get closed(): PeerageError | undefined {
    const json = this.#native.closed();
    return json === null ? undefined : fromJson(json);
  }

  /** From here on the node keeps the process alive again. */
  ref(): this {
    if (!this.#isEnded) keep(this, true);
    return this;
  }

  /**
   * From here on the node does not keep the process alive. If nothing of the program can reach it
   * any more, it is stopped without a goodbye.
   */
  unref(): this {
    keep(this, false);
    return this;
  }

  #subscribe(): Subscription {
    return new Subscription((id) => this.#native.events(bridge, id));
  }

  /** Subscribes for the listeners, or stops when there are none. */
  #listen(): void {
    const wanted = this.#emitter.eventNames().length > 1; // one is our own
    if (wanted && this.#heard === undefined) {
      this.#heard = this.#subscribe();
      this.#heard.wait(() => this.#emit());
    } else if (!wanted) {
      this.#heard?.close();
      this.#heard = undefined;
    }
  }

  /** One batch of events to the listeners, then the next as soon as the loop had its turn. */
  #emit(): void {
    const heard = this.#heard;
    const reader = heard?.take();
    while (reader?.more === true && heard === this.#heard) {
      const event = readEvent(reader);
      guarded(() => this.#emitter.emit(EVENT_NAMES[event.kind], event));
      guarded(() => this.#emitter.emit('event', event));
    }
    if (heard !== this.#heard) return;
    if (reader !== undefined) {
      heard?.wait(() => this.#emit());
      return;
    }
    const reason = this.closed;
    if (reason !== undefined) guarded(() => this.#emitter.emit('closed', reason));
    this.#heard?.close();
  }

  /**
   * What the bridge holds of a node that nobody else may hold any more. Not made where `this` is
   * at hand: closures of one function hold what any of them names.
   */
  static #watcher(weak: WeakRef<Cluster>): Watcher {
    return {
      ended: () => {
        const node = weak.deref();
        if (node !== undefined) node.#end();
      },
      // That we are here is the answer.
      asked: (question) => {
        const node = weak.deref();
        if (node !== undefined) node.#native.answerLoop(question);
      },
    };
  }

  #end(): void {
    this.#isEnded = true;
    keep(this, false);
    this.#handlers.forEach(removeHandler);
    this.#handlers.clear();
    this.#takers.forEach(removeHandler);
    this.#takers.clear();
  }
}

function checkFunction(handler: unknown): void {
  if (typeof handler === 'function') return;
  const wrong = { field: 'handler', value: typeof handler, expected: 'must be a function' };
  const message = `handler = ${wrong.value}: ${wrong.expected}`;
  throw new PeerageError('Argument', message, { fields: [wrong] });
}
