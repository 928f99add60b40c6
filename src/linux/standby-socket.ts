/**
 * The socket of a process that waits for one request and answers it. A client connects, sends its request, and hears
 * `ready`; only when it says `go` is the request carried out. So a client that hears nothing knows that nothing was done.
 *
 * Request: `COUNT\0FIELD\0FIELD…\0`. Answer: `ready\n`, then after `go\n` any number of `1 LENGTH\nTEXT` (for standard
 * output) and `2 LENGTH\nTEXT` (for standard error), and `x CODE\n`, the exit code. The client is hooks/standby-client.
 */
import { createServer, type Socket } from 'node:net';

/** The fields of a complete request; undefined while it is not complete. Pure. */
export function parseRequest(text: string): readonly string[] | undefined {
  const [count = '', ...fields] = text.split('\0');
  return fields.length > Number(count) ? fields.slice(0, Number(count)) : undefined;
}

/** The bytes that pass text to an output of the client. Pure. */
export function frame(fd: 1 | 2, text: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`${fd} ${text.length}\n`), text]);
}

export interface Client {
  readonly fields: readonly string[];
  /** Passes text to an output of the client. */
  send(fd: 1 | 2, text: Uint8Array): void;
  /** Ends the client with this exit code. Resolves when it has been sent, or cannot be sent. */
  end(code: number): Promise<void>;
}

/** Milliseconds that a client has for its request and for `go`. It is a program of ours and needs none of them. */
const PATIENCE = 2000;

/**
 * Waits at the socket `path` for one client, and takes no other. Resolves when the client has said `go`; undefined if it
 * went away, or if `accepts` refuses its request. Root only: whoever may create files beside `path` may be a client.
 */
export function acceptOne(
  path: string,
  accepts: (fields: readonly string[]) => boolean,
): Promise<Client | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer(socket => {
      server.close(); // removes the socket: whoever else has connected hears the end, and has not been answered
      void answer(socket, accepts).then(resolve);
    });
    server.on('error', reject);
    server.listen(path);
  });
}

function answer(
  socket: Socket,
  accepts: (fields: readonly string[]) => boolean,
): Promise<Client | undefined> {
  return new Promise(resolve => {
    let text = '';
    let fields: readonly string[] | undefined;
    const leave = (): void => {
      socket.destroy();
      resolve(undefined);
    };
    socket.setTimeout(PATIENCE, leave).setEncoding('utf8');
    socket.on('error', leave).on('close', leave);
    socket.on('data', (chunk: string) => {
      text += chunk;
      if (fields === undefined) {
        fields = parseRequest(text);
        if (fields === undefined) return;
        if (!accepts(fields)) return leave();
        text = '';
        socket.write('ready\n');
        return;
      }
      if (text !== 'go\n') return leave();
      socket.setTimeout(0);
      const send = (fd: 1 | 2, bytes: Uint8Array): void => void socket.write(frame(fd, bytes));
      const end = (code: number): Promise<void> =>
        new Promise(sent => {
          socket.on('close', () => sent());
          socket.end(`x ${code}\n`, () => sent());
        });
      resolve({ fields, send, end });
    });
  });
}
