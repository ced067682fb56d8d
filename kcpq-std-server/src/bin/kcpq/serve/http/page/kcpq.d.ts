/** A client of kcpq for browsers. */

export type Payload = string | number | Uint8Array | ArrayBuffer | ArrayBufferView | null | undefined;

/** Names and values; a name may come several times in a list of pairs. */
export type Headers = Record<string, string> | [string, string][];

export interface PublishOptions {
  /** Where answers are to be published. */
  reply?: string;
  headers?: Headers;
  /** Milliseconds after which the message is worth nothing. */
  ttl?: number;
  /** The server is to keep it as the last value of its subject. */
  retain?: boolean;
}

export interface SubscribeOptions {
  /** Of the messages of one subject that wait at the server, only the newest. */
  latest?: boolean;
  /** Without the values that the server has kept. */
  withoutKept?: boolean;
  /** The queue group: one of its members gets each message. */
  queue?: string;
  /** In which lane the messages are to come, 0 to 7; 1 is urgent, 6 is bulk. */
  lane?: number;
  /** Messages that wait for `for await`, 1,000 without it; the oldest is dropped and counted. */
  capacity?: number;
}

export interface ConnectOptions {
  /** `kcpq-token-...`. It goes over the connection as it is: use wss. */
  token?: string;
  /** What the client calls itself, as the server shows it. */
  name?: string;
  /** Milliseconds until connecting fails, 5,000 without it. */
  timeout?: number;
  /** Whether a lost connection comes back by itself; it does without this. */
  reconnect?: boolean;
}

export interface Message {
  readonly subject: string;
  readonly payload: Uint8Array;
  readonly headers: [string, string][];
  readonly reply?: string;
  /** Milliseconds that were left of the message's ttl. */
  readonly left?: number;
  /** For how long the server has kept it, in milliseconds, if it is a value of before. */
  readonly age?: number;
  readonly isKept: boolean;
  text(): string;
  json(): any;
  header(name: string): string | undefined;
  respond(payload?: Payload, options?: PublishOptions): void;
}

export interface Subscription extends AsyncIterable<Message> {
  readonly pattern: string;
  readonly received: number;
  readonly dropped: number;
  /** Ready when the server knows. */
  unsubscribe(): Promise<void>;
}

export interface Server {
  readonly name: string;
  readonly version: number;
  readonly features: number;
  /** Bytes of the longest message that it takes. */
  readonly maxBody: number;
  /** Seconds of silence after which it ends a session. */
  readonly keepAlive: number;
}

/** `code`: unreachable, disconnected, closed, denied, refused, timeout, nobody, full, too_large, no_reply; and of messages that are to be
 * stored unsupported, no_stream, in_doubt (whether it is stored nobody knows). */
export class KcpqError extends Error {
  readonly code: string;
  constructor(code: string, message: string);
}

/**
 * Events: `connect` (it is back), `disconnect` ({ why }), `denied` ({ subject, text }: a message was dropped), `ended` ({ pattern,
 * why }: a subscription), `close`.
 */
export class Client extends EventTarget {
  constructor(url: string, options: ConnectOptions);
  readonly isConnected: boolean;
  readonly server: Server | null;
  /** Connects once; `connect` does that. */
  open(): Promise<void>;
  /** Publishes, or throws: nothing waits for a connection. */
  publish(subject: string, payload?: Payload, options?: PublishOptions): void;
  /** The same; with how many sessions it is. */
  confirm(subject: string, payload?: Payload, options?: PublishOptions & { timeout?: number }): Promise<number>;
  /** The same; ready when a stream behind the server's backbone has stored it. What has the same id is stored once. */
  store(
    subject: string,
    payload?: Payload,
    options?: PublishOptions & { id?: string; timeout?: number },
  ): Promise<{ sequence: number; duplicate: boolean }>;
  subscribe(pattern: string, callback: (message: Message) => void, options?: SubscribeOptions): Promise<Subscription>;
  subscribe(pattern: string, options?: SubscribeOptions): Promise<Subscription>;
  unsubscribe(subscription: Subscription): Promise<void>;
  request(subject: string, payload?: Payload, options?: { headers?: Headers; timeout?: number }): Promise<Message>;
  flush(options?: { timeout?: number }): Promise<void>;
  close(): Promise<void>;
}

/** Connects to the server of this page, or to another one; comes back by itself if the connection is lost later. */
export function connect(url?: string, options?: ConnectOptions): Promise<Client>;
export function connect(options?: ConnectOptions): Promise<Client>;

// --- the protocol, for who wants it ---

export const command: Readonly<Record<string, number>>;
export function encodeFrame(command: number, subject?: Payload, payload?: Payload): Uint8Array;
export function decodeFrames(bytes: Uint8Array): { command: number; subject: Uint8Array; payload: Uint8Array }[];
export function encodeProperties(options?: PublishOptions & { confirm?: number; store?: number; id?: string }): Uint8Array;
export function decodeMessage(bytes: Uint8Array): {
  payload: Uint8Array;
  headers: [string, string][];
  reply?: string;
  status?: number;
  left?: number;
  member?: number;
  kept?: { age: number; number: number };
} | null;
export function matches(pattern: string, subject: string): boolean;
