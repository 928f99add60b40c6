/** Typing what doctor says. */
import * as fs from 'node:fs';
import { type Lab, MAYFLY, type Ran, sh } from './lab.ts';

/** Types a hint. The person at the terminal and the power button are stood in for; `mayfly` is the lab's. */
export function type(lab: Lab, hint: string): Ran {
  const bin = `${lab.dir}/bin`;
  if (!fs.existsSync(bin)) {
    fs.mkdirSync(bin);
    const put = (name: string, text: string): void =>
      fs.writeFileSync(`${bin}/${name}`, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    put('mayfly', `verb=$1; shift; exec node ${MAYFLY} "$verb" --config ${lab.config} "$@"`);
    put('sensible-editor', 'exec sed -i "$(echo "$1" | tr -d +)d" "$2"'); // deletes the line it was sent to
    put('shutdown', 'exit 0');
  }
  return sh('sh', ['-c', hint], { env: { PATH: `${bin}:/usr/sbin:/usr/bin:/sbin:/bin` } });
}
