// The same classes for `import` as for `require`: there is one build, and this names its parts.
export { Cluster, Code, PeerageError, Stream, generateSecret } from './index.js';
export type * from './index.js';
