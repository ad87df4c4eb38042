/**
 * The JavaScript end of the one way to the native half. The native half wakes us, at most once at
 * a time, and we drain what waits: outcomes of calls, requests for our handlers, subscriptions
 * that have events, nodes that have ended, and questions whether we drain at all.
 */
import { attempt, fromJson, translated } from './error.js';
import { explanation, leaveReport } from './generated/readers.js';
import { native } from './native.js';
import type { NativeStream } from './native.js';
import { Reader } from './reader.js';

/** An inbound request or message. */
export interface Request {
  /** Who asks, as its link says. */
  readonly from: string;
  /** What it is about. */
  readonly topic: string;
  /** What was sent. */
  readonly payload: Buffer;
}

/** What a payload may be given as; text is sent as UTF-8, nothing as an empty payload. */
export type Payload = Uint8Array | ArrayBuffer | DataView | string;

type Answered = Payload | undefined | null | void;

/** Answers a request, now or later. Throwing or rejecting reaches the caller as `Handler`. */
export type Handler = (request: Request) => Answered | PromiseLike<Answered>;

/** What takes something from the native half and is done with it, now or later. */
type Taker<T> = (given: T) => unknown;

/** Whoever is told once when something is there. */
export interface Waiter {
  ready(): void;
  /** The node has ended, so it is told any moment, for the last time. */
  isLast(): boolean;
}

/** Whoever is told about a node. */
export interface Watcher {
  ended(): void;
  /** The core wants to know whether this loop responds. */
  asked(question: number): void;
}

interface Pending {
  resolve(value: unknown): void;
  reject(reason: unknown): void;
  readonly signal: AbortSignal | null | undefined;
}

/** The kinds of items, as `src/bridge.rs` numbers them. */
const DONE = 0;
const ANSWER = 1;
const LEFT = 2;
const FAILED = 3;
const REQUEST = 4;
const READY = 5;
const ENDED = 6;
const FLAG = 7;
const EXPLAINED = 8;
const QUESTION = 9;
const OPENED = 10;
const STREAM = 11;

export const bridge = new native.Bridge(drain);

const calls = new Map<number, Pending>();
/** Signals that may end calls. */
const signals = new WeakMap<AbortSignal, { calls: Set<number>; abort: () => void }>();
const handlers = new Map<number, { handler: Handler; owner: unknown }>();
/** The same for streams. */
const takers = new Map<number, { handler: Taker<NativeStream>; owner: unknown }>();
/** Subscriptions that wait for events; nobody else may hold them. */
const waiting = new Map<number, Waiter>();
/** Those of them that are told any moment that there is no more: the process lives so long. */
const ending = new Set<number>();
/** Whom to tell about a running node, by its number. */
const watchers = new Map<number, Watcher>();
/** Running nodes that keep the process alive, and themselves from being collected. */
const running = new Set<object>();
let nextNumber = 1;
let isAlive = false;

export function newNumber(): number {
  return nextNumber++;
}

/** Keeps the process alive while a node runs, a call is under way or an end is to be heard. */
function checkAlive(): void {
  const alive = running.size > 0 || calls.size > 0 || ending.size > 0;
  if (alive === isAlive) return;
  isAlive = alive;
  if (alive) bridge.ref();
  else bridge.unref();
}

export function keep(node: object, alive: boolean): void {
  if (alive) running.add(node);
  else running.delete(node);
  checkAlive();
}

/** Begins a call that ends with an outcome, or with the signal's reason. */
export function call<T>(begin: (call: number) => void, signal?: AbortSignal | null): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    signal?.throwIfAborted();
    const id = newNumber();
    if (signal) follow(signal, id);
    calls.set(id, { resolve, reject, signal });
    checkAlive();
    try {
      begin(id);
    } catch (error) {
      settle(id)?.reject(translated(error));
    }
  });
}

/** The call, which is over with this. One that was aborted is not there any more. */
function settle(id: number): Pending | undefined {
  const pending = calls.get(id);
  if (pending === undefined) return undefined;
  calls.delete(id);
  checkAlive();
  if (pending.signal) unfollow(pending.signal, id);
  return pending;
}

/** Listens to a signal once for all calls that it ends, however many they are. */
function follow(signal: AbortSignal, call: number): void {
  let following = signals.get(signal);
  if (following === undefined) {
    const calls = new Set<number>();
    const abort = (): void => {
      for (const call of calls) {
        bridge.cancel(call);
        settle(call)?.reject(signal.reason);
      }
    };
    signal.addEventListener('abort', abort, { once: true });
    following = { calls, abort };
    signals.set(signal, following);
  }
  following.calls.add(call);
}

function unfollow(signal: AbortSignal, call: number): void {
  const following = signals.get(signal);
  following?.calls.delete(call);
  if (following?.calls.size === 0) {
    signal.removeEventListener('abort', following.abort);
    signals.delete(signal);
  }
}

/**
 * Makes a handler callable from the native half until it is removed by the number returned. It
 * keeps its node from being collected.
 */
export function addHandler(
  handler: Handler,
  owner: object,
  register: (id: number) => void,
): number {
  const id = newNumber();
  attempt(() => register(id));
  handlers.set(id, { handler, owner });
  return id;
}

/** As `addHandler`, for streams. */
export function addTaker(
  handler: Taker<NativeStream>,
  owner: object,
  register: (id: number) => void,
): number {
  const id = newNumber();
  attempt(() => register(id));
  takers.set(id, { handler, owner });
  return id;
}

/** Nothing comes for it any more. */
export function removeHandler(id: number): void {
  handlers.delete(id);
  takers.delete(id);
}

/** Removes a handler after what has come for it already. */
export function retireHandler(id: number): void {
  setImmediate(() => {
    if (bridge.waits(id)) retireHandler(id);
    else removeHandler(id);
  });
}

export function wait(id: number, waiter: Waiter): void {
  waiting.set(id, waiter);
  checkEnding(id, waiter);
}

export function stopWaiting(id: number): void {
  waiting.delete(id);
  ending.delete(id);
  checkAlive();
}

function checkEnding(id: number, waiter: Waiter): void {
  if (!waiter.isLast()) return;
  ending.add(id);
  checkAlive();
}

export function watch(id: number, watcher: Watcher): void {
  watchers.set(id, watcher);
}

function drain(): void {
  const reader = new Reader(bridge.drain());
  while (reader.more) {
    const kind = reader.count();
    const id = reader.count();
    switch (kind) {
      case DONE:
        settle(id)?.resolve(undefined);
        break;
      case ANSWER:
        {
          const answer = reader.bytes();
          settle(id)?.resolve(answer);
        }
        break;
      case LEFT:
        {
          const report = leaveReport(reader);
          settle(id)?.resolve(report);
        }
        break;
      case FAILED:
        {
          const error = reader.text();
          settle(id)?.reject(fromJson(error));
        }
        break;
      case REQUEST:
        {
          const handler = handlers.get(reader.count())?.handler;
          const request = { from: reader.text(), topic: reader.text(), payload: reader.bytes() };
          serve(id, handler, request);
        }
        break;
      case OPENED:
        {
          const stream = bridge.opened(id);
          const pending = settle(id);
          // Who aborted the call at the last moment gets no stream.
          if (pending === undefined) stream?.close();
          else pending.resolve(stream);
        }
        break;
      case STREAM:
        {
          const handler = takers.get(reader.count())?.handler;
          const stream = bridge.brought(id);
          if (stream !== null) serve(id, handler && takes(handler), stream);
        }
        break;
      case READY:
        {
          const waiter = waiting.get(id);
          stopWaiting(id);
          guarded(() => waiter?.ready());
        }
        break;
      case ENDED:
        {
          const watcher = watchers.get(id);
          watchers.delete(id);
          waiting.forEach((waiter, subscription) => checkEnding(subscription, waiter));
          guarded(() => watcher?.ended());
        }
        break;
      case FLAG:
        {
          const flag = reader.flag();
          settle(id)?.resolve(flag);
        }
        break;
      case EXPLAINED:
        {
          const found = reader.list(explanation)[0] ?? null;
          settle(id)?.resolve(found);
        }
        break;
      case QUESTION:
        {
          const question = reader.count();
          guarded(() => watchers.get(id)?.asked(question));
        }
        break;
      default:
        throw new Error(`an item of the unknown kind ${kind}`);
    }
  }
}

/** Calls user code: what it throws is its own and must not cost the rest of the batch. */
export function guarded(call: () => void): void {
  try {
    call();
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}

/** What handles a stream has nothing to answer. */
function takes<T>(handler: Taker<T>): (given: T) => Answered | PromiseLike<Answered> {
  return (given) => {
    const done = handler(given);
    return isPromise(done) ? done.then(() => undefined) : undefined;
  };
}

function serve<T>(
  id: number,
  handler: ((given: T) => Answered | PromiseLike<Answered>) | undefined,
  request: T,
): void {
  if (handler === undefined) {
    bridge.refuse(id, 'the handler was removed');
    return;
  }
  try {
    const answer = handler(request);
    if (isPromise(answer)) {
      answer.then(
        (later) => answered(id, later),
        (error: unknown) => bridge.refuse(id, described(error)),
      );
    } else {
      answered(id, answer);
    }
  } catch (error) {
    bridge.refuse(id, described(error));
  }
}

function answered(id: number, answer: Answered): void {
  try {
    bridge.answer(id, answer);
  } catch (error) {
    bridge.refuse(id, described(error));
  }
}

function isPromise(value: unknown): value is PromiseLike<Answered> {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as { then?: unknown }).then === 'function'
  );
}

function described(error: unknown): string {
  try {
    return error instanceof Error ? error.message : String(error);
  } catch {
    return 'the handler threw something that has no text';
  }
}
