import eslint from '@eslint/js';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

const node = Object.fromEntries(
  [
    'AbortController',
    'AbortSignal',
    'Atomics',
    'Buffer',
    'SharedArrayBuffer',
    'URL',
    'clearInterval',
    'clearTimeout',
    'console',
    'performance',
    'process',
    'setImmediate',
    'setInterval',
    'setTimeout',
  ].map((name) => [name, 'readonly']),
);

export default defineConfig(
  { ignores: ['bindings-node/dist/', 'target/', '.peerage/', 'bindings-node/tests/types/'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  eslint.configs.recommended,
  {
    files: ['bindings-node/ts/**'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { project: 'bindings-node/tsconfig.json' } },
    rules: {
      // What the native half has written is there; `!` says so without a check per value.
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // `void` in a handler's result: it may return nothing.
      '@typescript-eslint/no-invalid-void-type': 'off',
    },
  },
  {
    files: ['**/*.mjs'],
    languageOptions: { globals: node },
    rules: { 'no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }] },
  },
);
