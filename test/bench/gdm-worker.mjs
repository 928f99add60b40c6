// Stands in for gdm's session worker: a process per login that runs both hooks and forks the session.
// Gets {config, hooks, user, command} as JSON in its argument; says {up} or {error}; waits for a message; says {down}.
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';

const { config, runtime, hooks, user, command } = JSON.parse(process.argv[2]);
const { PATH, LANG } = process.env;
writeFileSync('/proc/self/comm', 'gdm-session-wor');

function hook(name) {
  const begin = process.hrtime.bigint();
  const child = spawnSync(`${hooks}/gdm/${name}`, ['--config', config], {
    env: { PATH, LANG, USER: user.name },
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  });
  const ms = Number(process.hrtime.bigint() - begin) / 1e6;
  return { ms, code: child.status, stderr: child.stderr };
}

const before = hook('PreSession');
if (before.code !== 0) {
  process.send({ error: before.stderr });
  process.disconnect();
} else {
  const id = readFileSync(`${runtime}/users/${user.uid}/session`, 'utf8').trim();
  // Without a pipe: whoever stays behind in the session would keep it open, and us waiting.
  const session = spawnSync('schroot', ['-c', id, '-d', '/', '--', ...command], {
    env: { PATH, LANG },
    cwd: '/',
    stdio: 'ignore',
    uid: user.uid,
    gid: user.gid,
  });
  process.once('message', () => {
    process.send({ down: hook('PostSession') });
    process.disconnect();
  });
  process.send(
    session.status === 0 ? { up: id } : { error: `the command failed with exit code ${session.status}` },
  );
}
