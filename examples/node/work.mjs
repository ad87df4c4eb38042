// The work itself: small, real, and checkable by whoever asked for it.

/** The topic that workers handle. */
export const TOPIC = 'work';

/** FNV-1a over the payload: the answer that a worker gives and the director checks. */
export function checksum(payload) {
  let hash = 0xcbf29ce484222325n;
  for (const byte of payload) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}
