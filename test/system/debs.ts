/** Small Debian packages made on the spot, and a mirror on this machine that serves them, also as a proxy. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { must } from './lab.ts';

export interface Deb {
  readonly name: string;
  readonly version: string;
  /** More lines of the control file. */
  readonly fields?: readonly string[];
  /** Texts by absolute path. */
  readonly files?: Readonly<Record<string, string>>;
  readonly postinst?: string;
  readonly prerm?: string;
}

/** Builds a package in `directory`; returns its path. */
export function makeDeb(directory: string, d: Deb): string {
  const root = fs.mkdtempSync(`${directory}/build-`);
  fs.chmodSync(root, 0o755);
  const put = (path: string, text: string, mode: number): void => {
    fs.mkdirSync(`${root}${path.slice(0, path.lastIndexOf('/'))}`, { recursive: true });
    fs.writeFileSync(root + path, text, { mode });
  };
  const control = [
    `Package: ${d.name}`,
    `Version: ${d.version}`,
    'Architecture: all',
    'Maintainer: Nobody <nobody@example.org>',
    ...(d.fields ?? []),
    'Description: made for a test',
  ];
  put('/DEBIAN/control', `${control.join('\n')}\n`, 0o644);
  const conffiles = Object.keys(d.files ?? {}).filter(path => path.startsWith('/etc/'));
  if (conffiles.length > 0) put('/DEBIAN/conffiles', `${conffiles.join('\n')}\n`, 0o644);
  if (d.postinst !== undefined) put('/DEBIAN/postinst', `#!/bin/sh\nset -e\n${d.postinst}\n`, 0o755);
  if (d.prerm !== undefined) put('/DEBIAN/prerm', `#!/bin/sh\nset -e\n${d.prerm}\n`, 0o755);
  for (const [path, text] of Object.entries(d.files ?? {})) put(path, text, 0o644);
  const path = `${directory}/${d.name}_${d.version}_all.deb`;
  must('dpkg-deb', ['--root-owner-group', '-b', root, path]);
  fs.rmSync(root, { recursive: true });
  return path;
}

/** The real package of apt's own mirror, and the same one under a version that is older than any. */
export function realAndOld(directory: string, name: string): { version: string; old: string } {
  must('sh', ['-c', 'cd "$1" && apt-get -qq download "$2"', 'sh', directory, name]);
  const real = fs.readdirSync(directory).find(n => n.startsWith(`${name}_`)) ?? '';
  const version = must('dpkg-deb', ['-f', `${directory}/${real}`, 'Version']).trim();
  const root = `${directory}/old`;
  must('dpkg-deb', ['-R', `${directory}/${real}`, root]);
  const control = `${root}/DEBIAN/control`;
  fs.writeFileSync(control, fs.readFileSync(control, 'utf8').replace(/^Version: .*$/m, 'Version: 0.1-1'));
  must('dpkg-deb', ['--root-owner-group', '-b', root, `${directory}/old.deb`]);
  return { version, old: `${directory}/old.deb` };
}

/** Names the packages in `directory` for apt. */
function index(directory: string): void {
  const text = must('sh', [
    '-c',
    'cd "$1" && dpkg-scanpackages --multiversion . 2>/dev/null',
    'sh',
    directory,
  ]);
  fs.writeFileSync(`${directory}/Packages`, text);
  const digest = createHash('sha256').update(text).digest('hex');
  const release = `Origin: test\nDate: ${new Date().toUTCString()}\nSHA256:\n ${digest} ${Buffer.byteLength(text)} Packages\n`;
  fs.writeFileSync(`${directory}/Release`, release);
}

/** Serves a directory, whatever host is asked for; keeps silent while there is a file "hang" in it. */
const SERVER = `
const fs = require('node:fs'), directory = process.argv[1];
const server = require('node:http').createServer((q, a) => {
  fs.appendFileSync(directory + '/requests', q.url + '\\n');
  if (fs.existsSync(directory + '/hang')) return;
  const path = directory + '/' + q.url.split('/').pop();
  const hidden = directory + '/hidden', isHidden = fs.existsSync(hidden) && path.endsWith('/' + fs.readFileSync(hidden, 'utf8'));
  if (!fs.existsSync(path) || isHidden) { a.statusCode = 404; a.end(); return; }
  a.end(fs.readFileSync(path));
}).listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit()).resume();
`;

/** A mirror that is reached only through its own proxy: its host name does not exist. */
export class Mirror {
  readonly directory: string;
  readonly #server: ChildProcess;
  readonly #port: string;

  private constructor(directory: string, server: ChildProcess, port: string) {
    this.directory = directory;
    this.#server = server;
    this.#port = port;
  }

  static async start(): Promise<Mirror> {
    const directory = fs.mkdtempSync('/var/lib/mayfly-mirror-');
    const server = spawn(process.execPath, ['-e', SERVER, directory], { stdio: ['pipe', 'pipe', 'inherit'] });
    const [port] = await once(server.stdout, 'data');
    return new Mirror(directory, server, String(port).trim());
  }

  add(...debs: readonly Deb[]): void {
    for (const deb of debs) makeDeb(this.directory, deb);
    index(this.directory);
  }

  /** Lines of [update] that make apt use this mirror and nothing else. */
  get config(): string {
    return `sources = ["deb [trusted=yes] http://mirror.invalid/debian ./"]\nproxy = "http://127.0.0.1:${this.#port}"\n`;
  }

  /** Addresses that were asked for. */
  requests(): string[] {
    const path = `${this.directory}/requests`;
    return fs.existsSync(path) ? fs.readFileSync(path, 'utf8').split('\n').filter(Boolean) : [];
  }

  /** Makes one file unavailable, or none. */
  hide(name: string | undefined): void {
    fs.writeFileSync(`${this.directory}/hidden`, name ?? '');
  }

  hang(yes: boolean): void {
    if (yes) fs.writeFileSync(`${this.directory}/hang`, '');
    else fs.rmSync(`${this.directory}/hang`, { force: true });
  }

  stop(): void {
    this.#server.kill();
    fs.rmSync(this.directory, { recursive: true });
  }
}
