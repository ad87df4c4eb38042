/** The native half, as the Rust code in `bindings-node/src` declares it. */

/** Numbers in slots of eight bytes, texts as a JSON array, payloads beside them. */
export interface Batch {
  slots: ArrayBuffer;
  texts: string;
  small?: Buffer;
  large?: Buffer[];
}

export interface NativeBridge {
  ref(): void;
  unref(): void;
  drain(): Batch;
  waits(handler: number): boolean;
  start(call: number, config: unknown): void;
  started(call: number): NativeCluster | null;
  opened(call: number): NativeStream | null;
  brought(request: number): NativeStream | null;
  cancel(call: number): void;
  answer(request: number, answer: unknown): void;
  refuse(request: number, message: string): void;
}

export interface NativeCluster {
  open(): void;
  join(bridge: NativeBridge, call: number, deadline: unknown): void;
  request(
    bridge: NativeBridge,
    call: number,
    target: unknown,
    topic: unknown,
    payload: unknown,
    deadline: unknown,
  ): void;
  send(
    bridge: NativeBridge,
    call: number,
    target: unknown,
    topic: unknown,
    payload: unknown,
    deadline: unknown,
  ): void;
  setTags(bridge: NativeBridge, call: number, tags: unknown): void;
  updateTag(bridge: NativeBridge, call: number, key: unknown, value: unknown): void;
  removeTag(bridge: NativeBridge, call: number, key: unknown): void;
  setSecrets(secrets: unknown): void;
  reloadCertificates(bridge: NativeBridge, call: number): void;
  explain(bridge: NativeBridge, call: number, id: unknown): void;
  answerLoop(question: number): void;
  leave(bridge: NativeBridge, call: number): void;
  shutdownNow(bridge: NativeBridge, call: number): void;
  handle(bridge: NativeBridge, topic: unknown, handler: number): void;
  unhandle(topic: unknown): boolean;
  openStream(
    bridge: NativeBridge,
    call: number,
    target: unknown,
    topic: unknown,
    deadline: unknown,
  ): void;
  handleStreams(bridge: NativeBridge, topic: unknown, handler: number): void;
  unhandleStreams(topic: unknown): boolean;
  events(bridge: NativeBridge, id: number): NativeSubscription;
  local(): Batch;
  members(): Batch;
  get(id: unknown): Batch;
  membersWith(tags: unknown): Batch;
  stats(): Batch;
  addr(): string;
  boundAddr(): string;
  closed(): string | null;
}

export interface NativeStream {
  peer(): string;
  topic(): string;
  sent(): number;
  write(bridge: NativeBridge, call: number, chunk: unknown, deadline: unknown): void;
  finish(bridge: NativeBridge, call: number, deadline: unknown): void;
  read(bridge: NativeBridge, call: number, deadline: unknown): void;
  reset(code: unknown): void;
  stop(code: unknown): void;
  close(): void;
}

export interface NativeSubscription {
  take(): Batch | null;
  wait(): void;
  closed(): boolean;
  close(): void;
}

interface Native {
  Bridge: new (wake: () => void) => NativeBridge;
  generateSecret(): string;
  echoValue(value: unknown): unknown;
  echoEvents(bridge: NativeBridge, id: number, count: number): NativeSubscription;
}

// Built by `cargo build -p peerage-node` and copied beside the compiled TypeScript.
// eslint-disable-next-line @typescript-eslint/no-require-imports -- there is no import of an addon
export const native = require('./peerage.node') as Native;
