// The loader, the hooks with nothing but Node's built-ins, and everything else, loaded on use.
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, readdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { build } from 'esbuild';

const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
for (const name of existsSync('dist') ? readdirSync('dist') : [])
  if (name.endsWith('.code')) unlinkSync(`dist/${name}`);

const common = {
  bundle: true,
  platform: 'node',
  target: 'node18.19',
  supported: { 'dynamic-import': false }, // require() instead: quicker, and there is no import() in a vm.Script
  format: 'cjs',
  legalComments: 'none',
  logLevel: 'warning',
  minifySyntax: true,
  minifyWhitespace: true,
  define: { MAYFLY_VERSION: JSON.stringify(version) },
};

const load = await build({
  ...common,
  entryPoints: ['src/config/parse.ts'],
  outfile: 'dist/parse.cjs',
  metafile: true,
});
const buildId = createHash('sha256').update(readFileSync('dist/parse.cjs')).digest('hex').slice(0, 16);

/** What a hook needs only where something may hang or take long, or only on LVM, and what no login needs. */
const onUse = [
  ...[
    'advice',
    'linux/kernel-module',
    'linux/loops',
    'linux/process-look',
    'linux/terminate',
    'linux/time-limits',
  ],
  ...[
    'session/agent',
    'session/guest-leftovers',
    'session/host-facts',
    'session/home-places',
    'session/manager-end',
    'session/manager-restart',
    'session/number-conflicts',
    'session/primary-group',
    'session/proof',
  ],
  ...['session/reboot-policy', 'session/refused-login', 'session/saving', 'session/space-being-freed'],
  ...[
    'session/stuck-limit',
    'session/unannounced',
    'session/unknown-groups',
    'session/unseen-holders',
    'state/promotion-lock',
    'volume/btrfs-space',
    'volume/eraser',
    'volume/lvm/lvm',
  ],
];
await build({
  ...common,
  entryPoints: onUse.map(name => `src/${name}.ts`),
  outbase: 'src',
  entryNames: '[name]',
  outdir: 'dist',
  outExtension: { '.js': '.cjs' },
});

/** A bundle names what is loaded on use as files beside it instead of swallowing them. */
const names = ['cli', 'parse', ...onUse.map(name => name.split('/').pop())];
const cold = {
  name: 'cold',
  setup(b) {
    b.onResolve({ filter: new RegExp(`/(${names.join('|')})\\.ts$`) }, ({ path, kind }) =>
      kind === 'dynamic-import'
        ? { path: `./${path.split('/').pop().replace('.ts', '.cjs')}`, external: true }
        : undefined,
    );
  },
};

/** Packages that the command line loads on use. Not our modules that import them: those share state with others. */
const packages = ['execa', 'winston', 'chokidar'];
const apart = {
  name: 'apart',
  setup(b) {
    b.onResolve({ filter: new RegExp(`^(${packages.join('|')})$`) }, ({ path, kind }) =>
      kind === 'entry-point' ? undefined : { path: `./${path}.cjs`, external: true },
    );
  },
};

const hot = await build({
  ...common,
  minify: true,
  plugins: [cold],
  entryPoints: ['src/main.ts'],
  define: { ...common.define, MAYFLY_BUILD: JSON.stringify(buildId) },
  write: false,
  outfile: 'dist/hot.js',
  metafile: true,
});
const packageOf = input => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(input)?.[0];
const foreign = Object.keys(hot.metafile.inputs).filter(packageOf);
if (foreign.length > 0)
  throw new Error(`a hook would load more than Node's own modules: ${foreign.join(', ')}`);
// A function of what the loader gives it, to compile with a cache; and plain ASCII, one byte a character.
const source = `(function(require,keepCode){${hot.outputFiles[0].text}\n})`;
writeFileSync('dist/hot.js', source);
const digest = createHash('sha256').update(source).digest('hex').slice(0, 16);
await build({
  ...common,
  minify: true,
  entryPoints: ['src/loader.ts'],
  define: { MAYFLY_DIGEST: JSON.stringify(digest) },
  outfile: 'dist/mayfly.cjs',
  banner: { js: '#!/usr/bin/env node' },
});
const cli = await build({
  ...common,
  plugins: [cold, apart],
  define: { ...common.define, MAYFLY_BUILD: JSON.stringify(buildId) },
  entryPoints: ['src/cli/cli.ts'],
  outfile: 'dist/cli.cjs',
  metafile: true,
});
const packageBundles = await Promise.all(
  packages.map(name =>
    build({ ...common, entryPoints: [name], outfile: `dist/${name}.cjs`, metafile: true }),
  ),
);
chmodSync('dist/mayfly.cjs', 0o755);

// The licences of what was bundled travel with it.
const bundled = new Set();
for (const { metafile } of [cli, load, ...packageBundles]) {
  for (const directory of Object.keys(metafile.inputs).map(packageOf)) if (directory) bundled.add(directory);
}
const notices = [...bundled].sort().map(directory => {
  const p = JSON.parse(readFileSync(`${directory}/package.json`, 'utf8'));
  const file = readdirSync(directory).find(f => /^licen[cs]e/i.test(f));
  const text = file ? readFileSync(`${directory}/${file}`, 'utf8').trim() : `Licence: ${p.license}`;
  return `== ${p.name} ${p.version} (${p.license})\n\n${text}\n`;
});
writeFileSync(
  'dist/LICENSES.txt',
  `Bundled into this program, with their licences:\n\n${notices.join('\n')}`,
);
