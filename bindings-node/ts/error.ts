import type { Code } from './generated/types.js';

/** What is wrong with a configuration field or an argument. */
export interface WrongField {
  /** The field's name, as it is written in JavaScript. */
  readonly field: string;
  /** What was given. */
  readonly value: string;
  /** What was expected. */
  readonly expected: string;
}

/** What an error says besides its message; which entries there are depends on the code. */
export interface ErrorDetails {
  /** With `Config` and `Argument`: everything that is wrong. */
  readonly fields?: readonly WrongField[];
  readonly [name: string]: unknown;
}

/** Every error of this library, told apart by its `code`. */
export class PeerageError extends Error {
  /** The same text in every language. */
  readonly code: Code;
  readonly details: ErrorDetails;

  constructor(code: Code, message: string, details: ErrorDetails = {}) {
    super(message);
    this.code = code;
    this.details = details;
  }

  static {
    // On the prototype, as with the built-in errors: it is not printed as a property.
    Object.defineProperty(this.prototype, 'name', { value: 'PeerageError', configurable: true });
  }
}

interface Failure {
  code: Code;
  message: string;
  details: ErrorDetails;
}

/** An error from the native half's JSON. */
export function fromJson(json: string): PeerageError {
  const { code, message, details } = JSON.parse(json) as Failure;
  return new PeerageError(code, message, details);
}

/** Makes a call of the native half; what it refuses is thrown as what it is. */
export function attempt<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    const made = translated(error);
    // The caller's place, not ours.
    if (made !== error) Error.captureStackTrace(made as Error, attempt);
    throw made;
  }
}

/** What the native half has thrown; anything else was thrown by code that it called. */
export function translated(error: unknown): unknown {
  if (!(error instanceof Error) || !error.message.startsWith('{"code":')) return error;
  return fromJson(error.message);
}
