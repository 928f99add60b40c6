/** The socket of the agent, with real clients. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createConnection, Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  type Client,
  type ClientServer,
  frame,
  parseRequest,
  serveClients,
} from '../../src/linux/agent-socket.ts';

describe('a request', () => {
  it.each([
    ['', undefined],
    ['2\0a\0', undefined],
    ['2\0a\0b', undefined],
    ['2\0a\0b\0', ['a', 'b']],
    ['1\0a\0b\0', ['a']],
    ['x\0a\0', undefined],
  ])('%j is %j', (text, fields) => {
    expect(parseRequest(text)).toEqual(fields);
  });
});

describe('the socket', () => {
  let place: string;
  let server: ClientServer;
  let begun: (readonly string[])[];
  let complete: (code: number | Error) => void;
  let last: Client | undefined;
  let inner: Server;

  beforeEach(async () => {
    place = mkdtempSync(`${tmpdir()}/mayfly-agent-`);
    begun = [];
    const listens = vi.spyOn(Server.prototype, 'listen');
    server = await serveClients(`${place}/x.sock`, {
      accepts: async fields => {
        if (fields[0] === 'throw') throw new Error('no');
        return fields[0] === 'no' ? undefined : 7;
      },
      answer: client => {
        begun.push(client.fields);
        last = client;
        return new Promise((yes, no) => {
          complete = code => (typeof code === 'number' ? yes(code) : no(code));
        });
      },
    });
    inner = listens.mock.contexts[0] as Server;
    listens.mockRestore();
  });
  afterEach(async () => {
    complete?.(0);
    await server.close();
    rmSync(place, { recursive: true });
  });

  /** A client; `said` resolves with all it has heard when the connection ends. */
  function connect(): { socket: Socket; hears: (text: string) => Promise<void>; said: Promise<string> } {
    const socket = createConnection(`${place}/x.sock`);
    let text = '';
    let check = (): void => undefined;
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      check();
    });
    socket.on('error', () => undefined);
    const said = new Promise<string>(yes => socket.on('close', () => yes(text)));
    const hears = (wanted: string): Promise<void> =>
      new Promise(yes => {
        check = () => {
          if (text.endsWith(wanted)) yes();
        };
        check();
      });
    return { socket, hears, said };
  }

  it('says ready, and begins only when the client says go', async () => {
    const { socket, hears, said } = connect();
    socket.write('2\0a\0');
    socket.write('b\0');
    await hears('ready 7\n');
    expect(begun).toEqual([]);
    socket.write('go\n');
    while (begun.length === 0) await new Promise(setImmediate);
    last?.send(1, Buffer.from('one'));
    last?.send(2, Buffer.from('zwö'));
    last?.extend(25);
    complete(3);
    expect(await said).toBe('ready 7\n1 3\none2 4\nzwöw 25\nx 3\n');
    expect(begun).toEqual([['a', 'b']]);
    expect(frame(1, Buffer.from('x')).toString()).toBe('1 1\nx');
  });

  it.each(['no', 'throw'])('refuses a request that is not accepted: %s', async word => {
    const { socket, said } = connect();
    socket.write(`1\0${word}\0`);
    expect(await said).toBe('');
    expect(begun).toEqual([]);
  });

  it.each(['stop\n', 'gone\n', '\n'])('does nothing for a client that says %j instead of go', async word => {
    const { socket, hears, said } = connect();
    socket.write('1\0a\0');
    await hears('ready 7\n');
    socket.write(word);
    expect(await said).toBe('ready 7\n');
    expect(begun).toEqual([]);
  });

  it('ends a connection without an exit code where the answer has none', async () => {
    const { socket, hears, said } = connect();
    socket.write('1\0a\0');
    await hears('ready 7\n');
    socket.write('go\n');
    while (begun.length === 0) await new Promise(setImmediate);
    complete(new Error('a fault'));
    expect(await said).toBe('ready 7\n');
  });

  it('is removed at once when it closes; who waits to begin is told, and what was begun is completed', async () => {
    const [waits, works] = [connect(), connect()];
    for (const { socket, hears } of [waits, works]) {
      socket.write('1\0a\0');
      await hears('ready 7\n');
    }
    works.socket.write('go\n');
    while (begun.length === 0) await new Promise(setImmediate);
    let isClosed = false;
    const closed = server.close().then(() => {
      isClosed = true;
    });
    expect(await waits.said).toBe('ready 7\n');
    expect(readdirSync(place)).toEqual([]);
    expect(isClosed).toBe(false);
    complete(0);
    expect(await works.said).toBe('ready 7\nx 0\n');
    await closed;
  });

  it('goes on after errors of accept(2), as where there are too many open files', async () => {
    for (let n = 0; n < 3; n++) inner.emit('error', new Error('accept ENFILE'));
    const { socket, hears } = connect();
    socket.write('1\0a\0');
    await hears('ready 7\n');
    socket.destroy();
  });

  it('sends nothing to a client that has gone away, and completes what it wanted', async () => {
    const { socket, hears, said } = connect();
    socket.write('1\0a\0');
    await hears('ready 7\n');
    socket.write('go\n');
    while (begun.length === 0) await new Promise(setImmediate);
    socket.destroy();
    await said;
    last?.send(1, Buffer.from('one'));
    last?.extend(5);
    complete(0);
    await server.close();
  });
});
