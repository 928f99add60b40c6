/**
 * The socket of the agent. A client connects, sends its request, and hears `ready`; only when it says `go` is the request
 * carried out. So a client that hears nothing knows that nothing was done.
 *
 * Request: `COUNT\0FIELD\0FIELD…\0`. Answer: `ready SECONDS\n`, after which time the client waits no longer, then after
 * `go\n` any number of `1 LENGTH\nTEXT` (for standard output), `2 LENGTH\nTEXT` (for standard error) and `w SECONDS\n`, after
 * which time from now the client waits no longer, and `x CODE\n`, the exit code. The client is hooks/agent-client.
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
  /** Has the client wait for so many seconds from now. */
  extend(seconds: number): void;
}

export interface ClientHandler {
  /** For how many seconds a client waits for the answer to its request; undefined refuses it. */
  accepts(fields: readonly string[]): Promise<number | undefined>;
  /** Carries out a request; returns the exit code of the client. */
  answer(client: Client): Promise<number>;
}

export interface ClientServer {
  /** Removes the socket. Resolves when the requests that were begun have been answered. */
  close(): Promise<void>;
}

/** Milliseconds that a client has for its request and for `go`. It is a program of ours and needs none of them. */
const PATIENCE = 2000;

/** A request is a few names: more is no request. */
const LONGEST = 65_536;

/** Answers clients at the socket `path`. Root only: whoever may create files beside `path` may be a client. */
export function serveClients(path: string, handler: ClientHandler): Promise<ClientServer> {
  const open = new Set<Socket>(); // clients that have not said `go`
  const running = new Set<Promise<void>>();
  const server = createServer(socket => {
    open.add(socket);
    void converse(socket, handler).then(client => {
      open.delete(socket);
      if (client === undefined) return;
      const done = finish(socket, handler.answer(client)).finally(() => running.delete(done));
      running.add(done);
    });
  });
  return new Promise((resolve, reject) => {
    server.on('error', reject); // later, of accept(2): that client does the work itself
    server.listen(path, () =>
      resolve({
        async close() {
          server.close(); // which removes the socket
          for (const socket of open) socket.destroy();
          while (running.size > 0) await Promise.all(running);
        },
      }),
    );
  });
}

/** Sends the exit code; the connection ends without one if there is none. Resolves when it is sent, or cannot be. */
async function finish(socket: Socket, answer: Promise<number>): Promise<void> {
  const code = await answer.catch(() => undefined);
  if (code === undefined || socket.destroyed) {
    socket.destroy();
    return;
  }
  await new Promise<void>(sent => {
    socket.on('close', () => sent());
    socket.end(`x ${code}\n`, () => sent());
  });
}

/** Waits for a request and for `go`; undefined if the client goes away first, says something else, or is refused. */
function converse(socket: Socket, { accepts }: ClientHandler): Promise<Client | undefined> {
  return new Promise(resolve => {
    let text = '';
    let fields: readonly string[] | undefined;
    const leave = (): void => {
      socket.destroy();
      resolve(undefined);
    };
    const invite = async (all: readonly string[]): Promise<void> => {
      const seconds = await accepts(all).catch(() => undefined);
      if (seconds === undefined || socket.destroyed) return leave();
      text = '';
      socket.write(`ready ${seconds}\n`);
    };
    socket.setTimeout(PATIENCE, leave).setEncoding('utf8');
    socket.on('error', leave).on('close', leave);
    socket.on('data', (chunk: string) => {
      text += chunk;
      if (text.length > LONGEST) return leave();
      if (fields === undefined) {
        fields = parseRequest(text);
        if (fields !== undefined) void invite(fields);
        return;
      }
      if (text !== 'go\n') return leave();
      socket.setTimeout(0);
      const write = (bytes: string | Uint8Array): void => {
        if (!socket.destroyed) socket.write(bytes);
      };
      resolve({
        fields,
        send: (fd, bytes) => write(frame(fd, bytes)),
        extend: seconds => write(`w ${seconds}\n`),
      });
    });
  });
}
