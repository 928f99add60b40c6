/**
 * Certificate authorities that the administrator has added to the host, for update-ca-certificates(8): sessions trust them,
 * too. Those that only packages of the host have are not taken: an update of the image may have removed them.
 */
import { filesBelow } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { isPlainDirectory } from '../linux/mounts.ts';
import { CERTIFICATES, TRUSTED } from './host-settings.ts';

/** A file with all certificates; beside it there is a symlink for each, which OpenSSL finds by a hash. */
const BUNDLE = `${TRUSTED}/ca-certificates.crt`;

const PEM = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

/** Returns `bundle` with those certificates in `texts` that it lacks. Pure. */
export function withCertificates(bundle: string, texts: readonly string[]): string {
  const all = texts.flatMap(text => text.replaceAll('\r', '').match(PEM) ?? []);
  const missing = [...new Set(all)].filter(block => !bundle.includes(block));
  const start = bundle === '' || bundle.endsWith('\n') ? bundle : `${bundle}\n`;
  return start + missing.map(block => `${block}\n`).join('');
}

/** The symlinks of the host to its own certificates, and those to these, as names and targets. */
function ownLinks(host: Host): [string, string][] {
  const links = host.list(TRUSTED).map(name => [name, host.readlink(`${TRUSTED}/${name}`) ?? ''] as const);
  const direct = new Set(links.filter(([, to]) => to.startsWith(`${CERTIFICATES}/`)).map(([name]) => name));
  return links.flatMap(([name, to]) => (direct.has(name) || direct.has(to) ? [[name, to]] : []));
}

/** Adds the host's own certificates to those that the tree trusts, if it has any. They are in the tree already. */
export function trustCertificates(host: Host, root: string): void {
  if (!isPlainDirectory(host, root, TRUSTED)) return;
  const files = filesBelow(host, CERTIFICATES).filter(path => path.endsWith('.crt'));
  const there = host.lstat(root + BUNDLE);
  if (there && there.kind !== 'file') return;
  const before = host.read(root + BUNDLE) ?? '';
  const bundle = withCertificates(
    before,
    files.map(path => host.read(path) ?? ''),
  );
  if (bundle === before) return;
  host.write(root + BUNDLE, bundle, { mode: 0o644 });
  for (const [name, target] of ownLinks(host)) {
    // Different certificates with one hash are numbered.
    const [, stem, number] = /^(.*\.)(\d+)$/.exec(name) ?? [];
    const names =
      stem === undefined ? [name] : Array.from({ length: 10 }, (_, n) => `${stem}${Number(number) + n}`);
    const free = names.find(n => !host.lstat(`${root}${TRUSTED}/${n}`));
    if (free !== undefined) host.symlink(target, `${root}${TRUSTED}/${free}`);
  }
}
