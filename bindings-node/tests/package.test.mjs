// The package as its users load it: one class identity, types that hold under tsc --strict.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const root = fileURLToPath(new URL('../..', import.meta.url));

test('import and require give the same classes', async () => {
  const imported = await import('peerage');
  const required = require('peerage');
  for (const name of ['Cluster', 'PeerageError', 'Code', 'generateSecret']) {
    assert.equal(imported[name], required[name], name);
  }
  assert.deepEqual(Object.keys(imported).sort(), Object.keys(required).sort());
});

for (const module of ['node16', 'node20']) {
  test(`a consumer's types hold under tsc --strict, module ${module}`, () => {
    const tsc = require.resolve('typescript/bin/tsc');
    const files = ['consumer.mts', 'consumer.cts'].map(
      (file) => `bindings-node/tests/types/${file}`,
    );
    const args = [tsc, '--noEmit', '--strict', '--exactOptionalPropertyTypes', '--types', 'node'];
    args.push('--target', 'es2022', '--lib', 'es2023,esnext.disposable', '--module', module);
    const done = spawnSync(process.execPath, [...args, ...files], { cwd: root, encoding: 'utf8' });
    assert.equal(done.status, 0, done.stdout);
  });
}
