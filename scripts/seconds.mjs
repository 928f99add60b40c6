/** A reporter for vitest: how long each file took, with what it does before its first test, as lines in $MAYFLY_SECONDS. */
import * as fs from 'node:fs';

export default class Seconds {
  onTestModuleEnd(file) {
    const { collectDuration, duration } = file.diagnostic();
    const seconds = ((collectDuration + duration) / 1000).toFixed(1);
    fs.appendFileSync(process.env.MAYFLY_SECONDS, `${seconds} ${file.relativeModuleId}\n`);
  }
}
