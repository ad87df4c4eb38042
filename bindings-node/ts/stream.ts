import { Duplex } from 'node:stream';

import { bridge, call } from './bridge.js';
import type { Payload } from './bridge.js';
import { attempt } from './error.js';
import type { NativeStream } from './native.js';

export interface StreamOptions {
  /** Milliseconds; without it, the call waits for as long as the link lives. */
  readonly deadline?: number | undefined;
  /** Ends the call early; it rejects with the signal's reason. The stream stays open. */
  readonly signal?: AbortSignal | null | undefined;
}

/** Takes a stream that another member opened, until the promise is settled. */
export type StreamHandler = (stream: Stream) => void | PromiseLike<void>;

/**
 * A stream to another member, or from one: both directions at once, each ended on its own. What
 * one side writes, the other reads in order and whole, in chunks of any size.
 *
 * A direction ends cleanly with `finish()`. What is unfinished when the stream is closed, at the
 * end of its handler or of an `await using` block, is given up: the other side gets `StreamReset`
 * instead of an end. Calls may overlap; they take effect in the order in which they were made.
 */
export class Stream implements AsyncIterable<Buffer> {
  readonly #native: NativeStream;

  /** @internal */
  constructor(native: NativeStream) {
    this.#native = native;
  }

  /** Who is at the other end. */
  get peer(): string {
    return this.#native.peer();
  }

  /** What it is about. */
  get topic(): string {
    return this.#native.topic();
  }

  /** How many bytes were sent in all, by writes that failed as well. */
  get sent(): number {
    return this.#native.sent();
  }

  /**
   * Sends the whole chunk; text is sent as UTF-8. Resolves when its last bytes are on their way,
   * which they are not while the other side does not read. After a `Timeout` or an abort the stream
   * is still open, and `sent` says how far it came.
   */
  write(chunk: Payload, options?: StreamOptions): Promise<void> {
    return call((id) => this.#native.write(bridge, id, chunk, options?.deadline), options?.signal);
  }

  /**
   * Ends our direction; the other side reads what was sent and then the end. Resolves when its
   * node has all of it, be it read there or not.
   */
  finish(options?: StreamOptions): Promise<void> {
    return call((id) => this.#native.finish(bridge, id, options?.deadline), options?.signal);
  }

  /**
   * The next bytes, `null` at the end. A read that ends at its deadline, or is aborted, has lost
   * nothing: the next one has it. After `StreamReset`, `Handler` and `LinkLost` nothing more comes.
   */
  async read(options?: StreamOptions): Promise<Buffer | null> {
    const chunk = await call<Buffer | undefined>(
      (id) => this.#native.read(bridge, id, options?.deadline),
      options?.signal,
    );
    return chunk ?? null;
  }

  /** Everything up to the end. Leaving the loop early leaves the stream open. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, undefined, undefined> {
    for (;;) {
      const chunk = await this.read();
      if (chunk === null) return undefined;
      yield chunk;
    }
  }

  /**
   * Gives our direction up: the other side gets `StreamReset` with this code, 0 to 2147483647, and
   * what it has not read is lost. A write under way rejects with `Cancelled`.
   */
  reset(code: number): void {
    attempt(() => this.#native.reset(code));
  }

  /**
   * Tells the other side to stop sending: its writing fails with `StreamReset` and this code, 0 to
   * 2147483647. What was not read is lost. A read under way rejects with `Cancelled`.
   */
  stop(code: number): void {
    attempt(() => this.#native.stop(code));
  }

  /** Gives up what is unfinished, in both directions. */
  close(): void {
    this.#native.close();
  }

  /** Closes it, at the end of an `await using` block. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  /** The same as one of Node's own streams, which is to be used in its place from here on. */
  toDuplex(): Duplex {
    const duplex: Duplex = new Duplex({
      read: () => {
        this.read().then(
          (chunk) => duplex.push(chunk),
          (error: unknown) => duplex.destroy(error as Error),
        );
      },
      write: (chunk: Buffer, _encoding, done) => {
        this.write(chunk).then(() => done(), done);
      },
      final: (done) => {
        this.finish().then(() => done(), done);
      },
      destroy: (error, done) => {
        this.close();
        done(error);
      },
    });
    return duplex;
  }
}
