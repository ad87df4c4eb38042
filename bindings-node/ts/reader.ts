import type { Batch } from './native.js';
import { STATES } from './generated/tables.js';
import type { State, Tags } from './generated/types.js';

/**
 * Reads a batch value by value, in the order in which the native half (`src/writer.rs`) wrote it.
 * What the values are is generated: `generated/readers.ts`.
 */
export class Reader {
  readonly #numbers: Float64Array;
  readonly #bigints: BigUint64Array;
  readonly #texts: readonly string[];
  readonly #tags: Tags[] = [];
  readonly #batch: Batch;
  #at = 0;
  #smallAt = 0;
  #largeAt = 0;

  constructor(batch: Batch) {
    this.#batch = batch;
    this.#numbers = new Float64Array(batch.slots);
    this.#bigints = new BigUint64Array(batch.slots);
    this.#texts = JSON.parse(batch.texts) as string[];
  }

  /** Whether there is more to read. */
  get more(): boolean {
    return this.#at < this.#numbers.length;
  }

  count(): number {
    return this.#numbers[this.#at++]!;
  }

  u64(): bigint {
    return this.#bigints[this.#at++]!;
  }

  flag(): boolean {
    return this.#numbers[this.#at++] !== 0;
  }

  text(): string {
    return this.#texts[this.#numbers[this.#at++]!]!;
  }

  address(): string {
    return this.text();
  }

  state(): State {
    return STATES[this.#numbers[this.#at++]!]!;
  }

  /** Milliseconds. */
  span(): number {
    return this.#numbers[this.#at++]!;
  }

  optionalSpan(): number | null {
    return this.optionalNumber();
  }

  optionalNumber(): number | null {
    const number = this.#numbers[this.#at++]!;
    return Number.isNaN(number) ? null : number;
  }

  /** Records of one batch may share their tags, so nobody may change them. */
  tags(): Tags {
    const at = this.#numbers[this.#at++]!;
    const known = this.#tags[at];
    if (known !== undefined) return known;
    const tags: Record<string, string> = {};
    for (let left = this.count(); left > 0; left--) {
      const key = this.text();
      const value = this.text();
      if (key === '__proto__') {
        // An assignment would set the prototype.
        Object.defineProperty(tags, key, { value, enumerable: true });
      } else {
        tags[key] = value;
      }
    }
    this.#tags.push(Object.freeze(tags));
    return tags;
  }

  list<T>(read: (reader: Reader) => T): T[] {
    const list: T[] = [];
    for (let left = this.count(); left > 0; left--) list.push(read(this));
    return list;
  }

  bytes(): Buffer {
    const length = this.count();
    if (length >= SHARED_BYTES_MAX) return this.#batch.large![this.#largeAt++]!;
    if (length === 0) return Buffer.alloc(0);
    const start = this.#smallAt;
    this.#smallAt += length;
    return this.#batch.small!.subarray(start, this.#smallAt);
  }
}

/** As in `src/writer.rs`. */
const SHARED_BYTES_MAX = 4096;
