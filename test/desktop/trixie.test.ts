/** The same with Debian 13's lightdm, systemd and node, on a machine of that release. */
import { afterAll, afterEach, beforeAll, describe } from 'vitest';
import { disable, endsWithoutAWord, noLogin, typedLogin } from './basics.ts';
import { alice, bob, tell, withMayfly } from './desk.ts';
import { endings } from './ending.ts';
import { BASE, Machine } from './machine.ts';

let lab: Machine;
let before: string;

beforeAll(async () => {
  lab = Machine.make([alice, bob], BASE, 'trixie');
  before = await withMayfly(lab);
  lab.shot('trixie-greeter');
  console.log(lab.script('lightdm --version 2>&1; systemctl --version | head -n 1; node --version'));
});
afterEach(({ task }) => tell(lab, task));
afterAll(() => lab.close());

describe('a typed login', () => typedLogin(() => lab));

describe('a login that ends without a word', () =>
  endsWithoutAWord(
    () => lab,
    [
      ['the X server is killed', 'pkill -9 Xvfb'],
      ['the display manager is restarted', 'systemctl restart lightdm'],
    ],
  ));

/** The other orders are in lightdm.test.ts. */
describe('the end of a login', () => endings(() => lab, ['DOdo', 'ODdo']));

describe('what is no login', () => noLogin(() => lab));

disable(
  () => lab,
  () => before,
);
