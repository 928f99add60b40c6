/**
 * Whether the name of the machine is known without asking a server. schroot and sudo look it up each time they start: where
 * no server answers, each entry into a session takes half a minute.
 */
import type { Host } from '../../linux/host.ts';
import { HOSTNAME } from '../../session/host-settings.ts';
import { type CheckResult, check, found, notApplicable, type Subject, warning } from './check.ts';

export interface HostNameFacts {
  readonly name: string;
  /** The texts of hosts(5) and nsswitch.conf(5). */
  readonly hosts: string;
  readonly nsswitch: string;
}

/** Services of NSS that know the machine's own name without a server. */
const OWN = ['myhostname', 'resolve', 'files'];

/** Those that ask others. */
const SERVERS = /^(dns|wins|ldap|sss|nis|nisplus|mdns\w*)$/;

/** Those of {@link OWN} that are asked before any server; a host without the line asks "files" first. Pure. */
function askedFirst(nsswitch: string): string[] {
  const line = /^\s*hosts:(.*)$/m.exec(nsswitch)?.[1] ?? 'files dns';
  const services = line
    .replace(/#.*/, '')
    .replace(/\[[^\]]*\]/g, ' ')
    .split(/\s+/)
    .filter(Boolean);
  // mdns4_minimal answers only for names that end in ".local", and at once for all others.
  const asked = services.filter(service => !service.endsWith('_minimal'));
  const server = asked.findIndex(service => SERVERS.test(service));
  return (server < 0 ? asked : asked.slice(0, server)).filter(service => OWN.includes(service));
}

/** Whether hosts(5) has the name, in whatever case. Pure. */
export const hasName = (hosts: string, name: string): boolean =>
  hosts.split('\n').some(line => {
    const [address, ...names] = line.replace(/#.*/, '').split(/\s+/).filter(Boolean);
    return address !== undefined && names.some(n => n.toLowerCase() === name.toLowerCase());
  });

/** Evaluates how the machine's own name is found. Pure. */
export function judgeHostName({ name, hosts, nsswitch }: HostNameFacts): CheckResult {
  if (name === '' || name === '(none)') return notApplicable('the machine has no name');
  const first = askedFirst(nsswitch);
  const isKnown =
    first.some(service => service !== 'files') || (first.includes('files') && hasName(hosts, name));
  const what = `"/etc/hosts" lacks the name of this machine, "${name}": while no name server answers, each entry into a session takes half a minute`;
  const short = name.split('.')[0] ?? name;
  const names = short === name ? name : `${name} ${short}`;
  return found(isKnown ? [] : [warning(what, `add the line "127.0.1.1 ${names}" to /etc/hosts`)], name);
}

function gatherHostName({ host }: Pick<Subject, 'host'>): HostNameFacts {
  const read = (path: string): string => textOf(host, path);
  const name = read('/proc/sys/kernel/hostname') || read(HOSTNAME);
  return { name: name.trim(), hosts: read('/etc/hosts'), nsswitch: read('/etc/nsswitch.conf') };
}

/** A file that cannot be read is as good as none. */
const textOf = (host: Host, path: string): string =>
  host.stat(path)?.kind === 'file' ? (host.read(path) ?? '') : '';

export const hostNameCheck = check({
  group: 'schroot',
  title: 'host name',
  gather: gatherHostName,
  evaluate: judgeHostName,
});
