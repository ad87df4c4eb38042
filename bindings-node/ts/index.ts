import { native } from './native.js';

export { Cluster } from './cluster.js';
export type { ClusterEvents, JoinOptions, RequestOptions } from './cluster.js';
export type { Handler, Payload, Request } from './bridge.js';
export { PeerageError } from './error.js';
export type { ErrorDetails, WrongField } from './error.js';
export type { EventStream } from './events.js';
export { Stream } from './stream.js';
export type { StreamHandler, StreamOptions } from './stream.js';
export * from './generated/types.js';

/**
 * A new cluster secret. All nodes of a cluster hold the same one; keep it where you keep
 * passwords.
 */
export function generateSecret(): string {
  return native.generateSecret();
}
