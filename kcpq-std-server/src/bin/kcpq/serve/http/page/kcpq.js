// A client of kcpq for browsers, over a WebSocket (PROTOCOL.md 11). It needs nothing else; kcpq.d.ts has its types.
//
//     import { connect } from "/kcpq.js";
//     const client = await connect();
//     const sensors = await client.subscribe("sensors.>", (message) => console.log(message.subject, message.text()));
//     client.publish("greet.world", "hello");

// --- frames (PROTOCOL.md 3) ---

export const command = {
  SUB: 0x01, UNSUB: 0x02, PUB: 0x03, MSG: 0x04, PING: 0x05, PONG: 0x06, OK: 0x07, ERR: 0x08,
  HELLO: 0x10, WELCOME: 0x11, CLOSE: 0x12, ACK: 0x13, PUBX: 0x15, MSGX: 0x16, PUBACK: 0x17, WILL: 0x18,
};

const tag = {
  REPLY: 0x01, HEADER: 0x02, STATUS: 0x03, LEFT: 0x04, MEMBER: 0x05, KEPT: 0x06, TTL: 0x81, RETAIN: 0x82, CONFIRM: 0x83,
  STORE: 0x84,
};
const PROPERTIES = 1 << 8;
const STORES = 1 << 15;
const MAX_PROPERTIES = 16384;

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const strict = new TextDecoder("utf-8", { fatal: true });

const bytesOf = (value) => {
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return encoder.encode(value === undefined || value === null ? "" : String(value));
};
const u16 = (value) => [(value >> 8) & 0xff, value & 0xff];
const u32 = (value) => [(value >>> 24) & 0xff, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff];
const readU32 = (bytes, at) => ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;

const concat = (parts) => {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};

/** The bytes of a frame; subject and payload are texts or bytes. */
export const encodeFrame = (which, subject = "", payload = "") => {
  const [name, body] = [bytesOf(subject), bytesOf(payload)];
  if (name.length > 4096) throw new RangeError(`a subject of ${name.length} bytes, the limit is 4096`);
  return concat([u32(3 + name.length + body.length), [which], u16(name.length), name, body]);
};

/** The frames in bytes that hold whole ones: { command, subject, payload }, the latter two as bytes. */
export const decodeFrames = (bytes) => {
  const frames = [];
  for (let at = 0; at < bytes.length;) {
    const length = at + 4 <= bytes.length ? readU32(bytes, at) : 0;
    const named = at + 7 <= bytes.length ? (bytes[at + 5] << 8) | bytes[at + 6] : 0;
    const end = at + 4 + length;
    if (length < 3 + named || end > bytes.length) throw new RangeError("no whole frame");
    frames.push({
      command: bytes[at + 4],
      subject: bytes.subarray(at + 7, at + 7 + named),
      payload: bytes.subarray(at + 7 + named, end),
    });
    at = end;
  }
  return frames;
};

const property = (which, value) => concat([[which], u16(value.length), value]);

/** What stands behind a message: its properties, those for the server last, and their length. Empty if there are none. */
export const encodeProperties = ({ reply, headers, ttl, retain, confirm, store, id } = {}) => {
  const all = [];
  if (reply !== undefined) all.push(property(tag.REPLY, bytesOf(reply)));
  const pairs = headers === undefined ? [] : Array.isArray(headers) ? headers : Object.entries(headers);
  for (const [name, value] of pairs) {
    if (!/^[!-9;-~]{1,255}$/.test(name)) throw new TypeError(`'${name}' is no name of a header`);
    if (/[\x00-\x1f\x7f]/.test(value)) throw new TypeError(`the value of ${name} has control characters`);
    all.push(property(tag.HEADER, concat([[name.length], bytesOf(name), bytesOf(value)])));
  }
  if (ttl !== undefined) all.push(property(tag.TTL, u32(Math.min(Math.ceil(ttl), 0xffffffff))));
  if (retain) all.push(property(tag.RETAIN, []));
  if (confirm !== undefined) all.push(property(tag.CONFIRM, u32(confirm)));
  if (store !== undefined) {
    const name = bytesOf(id);
    if (name.length > 64 || /\p{Cc}/u.test(id ?? "")) throw new TypeError("an id is at most 64 bytes without control characters");
    all.push(property(tag.STORE, concat([u32(store), name])));
  }
  const bytes = concat(all);
  if (bytes.length > MAX_PROPERTIES) throw new RangeError(`${bytes.length} bytes of properties, the limit is ${MAX_PROPERTIES}`);
  return bytes.length === 0 ? bytes : concat([bytes, u16(bytes.length)]);
};

/** The parts of a MSGX's payload: { payload, reply, headers, status, left, member, kept }; null if they make no sense. */
export const decodeMessage = (bytes) => {
  const length = bytes.length < 2 ? NaN : (bytes[bytes.length - 2] << 8) | bytes[bytes.length - 1];
  const begin = bytes.length - 2 - length;
  if (!(begin >= 0)) return null;
  const message = { payload: bytes.subarray(0, begin), headers: [] };
  try {
    for (let at = begin; at < bytes.length - 2;) {
      const [which, end] = [bytes[at], at + 3 + ((bytes[at + 1] << 8) | bytes[at + 2])];
      if (end > bytes.length - 2) return null;
      const value = bytes.subarray(at + 3, end);
      const needs = { [tag.STATUS]: 1, [tag.LEFT]: 4, [tag.MEMBER]: 4, [tag.KEPT]: 8 }[which] ?? 0;
      if (value.length < needs) return null;
      if (which === tag.REPLY) message.reply = strict.decode(value);
      else if (which === tag.HEADER) {
        if (value.length < 1 + value[0]) return null;
        message.headers.push([strict.decode(value.subarray(1, 1 + value[0])), strict.decode(value.subarray(1 + value[0]))]);
      } else if (which === tag.STATUS) message.status = value[0];
      else if (which === tag.LEFT) message.left = readU32(value, 0);
      else if (which === tag.MEMBER) message.member = readU32(value, 0);
      else if (which === tag.KEPT) message.kept = { age: readU32(value, 0), number: readU32(value, 4) };
      else if (which & 0x40) return null; // what is not known and may not be passed over
      at = end;
    }
  } catch {
    return null; // no UTF-8
  }
  return message;
};

/** Whether a pattern of subjects matches one. */
export const matches = (pattern, subject) => {
  const [wanted, tokens] = [pattern.split("."), subject.split(".")];
  const isHidden = tokens[0] === "$KCPQ" && (wanted[0] === "*" || wanted[0] === ">");
  if (isHidden) return false;
  for (let at = 0; at < wanted.length; at++) {
    if (wanted[at] === ">") return at < tokens.length;
    if (at >= tokens.length || (wanted[at] !== "*" && wanted[at] !== tokens[at])) return false;
  }
  return wanted.length === tokens.length;
};

const hello = (name) => {
  const text = bytesOf(name).subarray(0, 255);
  return concat([
    [1], u32(PROPERTIES), u16(0xffff), u16(0), u32(8 << 20), u16(4096), [255], u16(KEEP_ALIVE / 1000), u32(0), u32(0),
    [text.length], text,
  ]);
};

const readWelcome = (bytes) => {
  if (bytes.length < 27 || bytes.length < 27 + bytes[26]) return null;
  return {
    version: bytes[0], features: readU32(bytes, 1), maxBody: readU32(bytes, 9), keepAlive: (bytes[16] << 8) | bytes[17],
    name: decoder.decode(bytes.subarray(27, 27 + bytes[26])),
  };
};

const CLOSED = [
  "closed", "the server stops", "broken frame", "nothing was heard for too long", "too slow", "a limit of the server",
  "a newer session took over", "what was sent is not taken", "the server does not let this client in",
  "whoever runs the server has ended it",
];
const DENIED = 8;
const NOBODY = 1;

// --- the client ---

/** PINGs are that far apart, and an answer may take as long as that, in milliseconds. */
const KEEP_ALIVE = 15_000;
const PATIENCE = 5_000;
/** What may wait in the browser to be sent, in bytes. */
const MAX_BUFFERED = 8 << 20;

export class KcpqError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "KcpqError";
    this.code = code;
  }
}

/** A message that has come. */
class Message {
  #client;

  constructor(client, subject, parts) {
    this.#client = client;
    this.subject = subject;
    this.payload = parts.payload;
    this.headers = parts.headers ?? [];
    this.reply = parts.reply;
    this.left = parts.left;
    this.age = parts.kept?.age;
  }

  get isKept() {
    return this.age !== undefined;
  }

  text() {
    return decoder.decode(this.payload);
  }

  json() {
    return JSON.parse(this.text());
  }

  /** The first header of this name. */
  header(name) {
    return this.headers.find(([known]) => known === name)?.[1];
  }

  respond(payload, options) {
    if (this.reply === undefined) throw new KcpqError("no_reply", "the message wants no answer");
    this.#client.publish(this.reply, payload, options);
  }
}

/** A subscription: calls back, or is gone through by `for await`. */
class Subscription {
  #client;
  #messages = [];
  #wake = null;
  #ended = false;

  constructor(client, pattern, options, callback) {
    this.#client = client;
    this.pattern = pattern;
    this.options = options;
    this.callback = callback;
    this.received = 0;
    this.dropped = 0;
    this.number = 0;
  }

  deliver(message) {
    this.received += 1;
    if (this.callback) return this.callback(message);
    this.#messages.push(message);
    if (this.#messages.length > (this.options.capacity ?? 1_000)) {
      this.#messages.shift();
      this.dropped += 1;
    }
    this.#wake?.();
  }

  end() {
    this.#ended = true;
    this.#wake?.();
  }

  async unsubscribe() {
    this.end();
    await this.#client.unsubscribe(this);
  }

  async *[Symbol.asyncIterator]() {
    try {
      for (;;) {
        while (this.#messages.length > 0) yield this.#messages.shift();
        if (this.#ended) return;
        await new Promise((resolve) => (this.#wake = resolve));
        this.#wake = null;
      }
    } finally {
      if (!this.#ended) this.unsubscribe().catch(() => {});
    }
  }
}

/** A connection that comes back by itself. Events: `connect`, `disconnect`, `denied`, `ended`, `close`. */
export class Client extends EventTarget {
  #url;
  #options;
  #socket = null;
  #server = null;
  #numbers = 0;
  #subscriptions = new Map();
  #waiting = new Map(); // number -> { resolve, reject, timer }
  #pings = [];
  #keepAlive = null;
  #attempts = 0;
  #closed = false;
  #inbox = null;
  #requests = new Map(); // token -> { resolve, reject, timer }

  constructor(url, options) {
    super();
    this.#url = url;
    this.#options = options;
  }

  get isConnected() {
    return this.#server !== null;
  }

  /** What the server says of itself: name, maxBody, keepAlive, features; null without a connection. */
  get server() {
    return this.#server;
  }

  /** Publishes, or throws if that cannot be. Nothing waits for a connection. */
  publish(subject, payload, { reply, headers, ttl, retain } = {}) {
    this.#publish(subject, payload, { reply, headers, ttl, retain });
  }

  /** The same; says with how many sessions it is, or why with none. */
  async confirm(subject, payload, { reply, headers, ttl, retain, timeout = PATIENCE } = {}) {
    const number = this.#number();
    const answer = this.#wait(number, timeout, `no word of the message to ${subject}`);
    try {
      this.#publish(subject, payload, { reply, headers, ttl, retain, confirm: number });
    } catch (error) {
      this.#settle(number)?.reject(error);
    }
    return answer;
  }

  /**
   * The same; ready when a stream behind the server's backbone has stored it: { sequence, duplicate }. What has the same id is
   * stored once.
   */
  async store(subject, payload, { reply, headers, ttl, retain, id, timeout = PATIENCE } = {}) {
    if (this.#server && !(this.#server.features & STORES)) {
      throw new KcpqError("unsupported", "the server has no backbone that stores messages");
    }
    const number = this.#number();
    const answer = this.#wait(number, timeout, `no word of the message to ${subject}`, true);
    try {
      this.#publish(subject, payload, { reply, headers, ttl, retain, store: number, id });
    } catch (error) {
      this.#settle(number)?.reject(error);
    }
    return answer;
  }

  /** Subscribes: to what is called back, or else gone through by `for await`. Ready when the server has it. */
  async subscribe(pattern, callback, options) {
    if (typeof callback !== "function") [callback, options] = [undefined, callback];
    const subscription = new Subscription(this, pattern, options ?? {}, callback);
    await this.#ask(subscription);
    return subscription;
  }

  async unsubscribe(subscription) {
    if (!this.#subscriptions.delete(subscription.number)) return;
    const { pattern, options } = subscription;
    const others = [...this.#subscriptions.values()].some((other) => other.pattern === pattern && !other.options.queue);
    if (!this.isConnected || (others && !options.queue)) return;
    // Of a queue group it names the member.
    const number = options.queue ? subscription.number : this.#number();
    const answer = this.#wait(number, PATIENCE, `no word of ${pattern}`);
    try {
      this.#send(encodeFrame(command.UNSUB, pattern, subscribePayload(number, options)));
    } catch (error) {
      this.#settle(number)?.reject(error);
    }
    await answer;
  }

  /** The first answer to a request; rejects at once if nobody is there, with code `nobody`. */
  async request(subject, payload, { headers, timeout = PATIENCE } = {}) {
    if (!this.#inbox) {
      const random = crypto.getRandomValues(new Uint8Array(16));
      const prefix = `_INBOX.${[...random].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
      this.#inbox = { prefix, ready: this.subscribe(`${prefix}.*`, (message) => this.#answered(message)) };
      this.#inbox.ready.catch(() => (this.#inbox = null));
    }
    const { prefix, ready } = this.#inbox;
    await ready;
    const token = String(this.#number());
    return new Promise((resolve, reject) => {
      const fail = () => {
        this.#requests.delete(token);
        reject(new KcpqError("timeout", `no answer to ${subject} in ${timeout} ms`));
      };
      this.#requests.set(token, { resolve, reject, timer: setTimeout(fail, timeout) });
      try {
        this.#publish(subject, payload, { reply: `${prefix}.${token}`, headers, ttl: timeout });
      } catch (error) {
        clearTimeout(this.#requests.get(token).timer);
        this.#requests.delete(token);
        reject(error);
      }
    });
  }

  /** Ready when the server has handled all that was sent before. */
  flush({ timeout = PATIENCE } = {}) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new KcpqError("timeout", `no answer to a PING in ${timeout} ms`)), timeout);
      this.#send(encodeFrame(command.PING));
      this.#pings.push({ resolve, reject, timer });
    });
  }

  /** Ends it for good. */
  async close() {
    if (this.#closed) return;
    this.#closed = true;
    if (this.isConnected) this.#send(encodeFrame(command.CLOSE, "", [0]));
    this.#socket?.close(1000);
    this.#lost(new KcpqError("closed", "the client is closed"));
    for (const subscription of this.#subscriptions.values()) subscription.end();
    this.#subscriptions.clear();
    this.#tell("close");
  }

  // --- the connection ---

  /** Connects once. */
  open() {
    return new Promise((resolve, reject) => {
      const { token, name = "browser", timeout = PATIENCE } = this.#options;
      const socket = new WebSocket(this.#url, token ? ["kcpq", token] : ["kcpq"]);
      socket.binaryType = "arraybuffer";
      this.#socket = socket;
      let why = new KcpqError("unreachable", `no connection to ${this.#url}`);
      const timer = setTimeout(() => socket.close(), timeout);
      socket.onopen = () => socket.send(encodeFrame(command.HELLO, "", hello(name)));
      socket.onmessage = ({ data }) => {
        try {
          for (const frame of decodeFrames(new Uint8Array(data))) {
            if (frame.command === command.WELCOME && !this.#server) {
              clearTimeout(timer);
              this.#server = readWelcome(frame.payload);
              if (!this.#server) throw new RangeError("a WELCOME that is cut short");
              this.#attempts = 0;
              this.#keepAlive = setInterval(() => this.flush({ timeout: KEEP_ALIVE }).catch(() => socket.close()), KEEP_ALIVE);
              resolve();
            } else if (frame.command === command.CLOSE) {
              const code = frame.payload[0] ?? 0;
              why = new KcpqError(code === DENIED ? "denied" : "closed", CLOSED[code] ?? `closed, reason ${code}`);
            } else this.#take(frame);
          }
        } catch (error) {
          why = error;
          socket.close();
        }
      };
      socket.onclose = () => {
        clearTimeout(timer);
        reject(why);
        if (this.#socket !== socket || this.#closed) return;
        const was = this.isConnected;
        this.#lost(why);
        if (was) this.#comeBack(why);
      };
    });
  }

  #lost(why) {
    this.#server = null;
    clearInterval(this.#keepAlive);
    for (const [number] of this.#waiting) this.#settle(number).reject(why);
    for (const { reject, timer } of this.#pings.splice(0)) {
      clearTimeout(timer);
      reject(why);
    }
    for (const [token, { reject, timer }] of this.#requests) {
      clearTimeout(timer);
      this.#requests.delete(token);
      reject(why);
    }
  }

  async #comeBack(why) {
    const { reconnect = true } = this.#options;
    this.#tell("disconnect", { why });
    while (reconnect && !this.#closed && why.code !== "denied") {
      const base = Math.min(250 * 2 ** this.#attempts++, 5_000);
      await new Promise((resolve) => setTimeout(resolve, base * (0.5 + Math.random())));
      if (this.#closed) return;
      try {
        await this.open();
        const again = [...this.#subscriptions.values()];
        this.#subscriptions.clear();
        await Promise.all(again.map((subscription) => this.#ask(subscription).catch((error) => {
          if (!this.isConnected) return this.#subscriptions.set(subscription.number, subscription);
          subscription.end();
          this.#tell("ended", { pattern: subscription.pattern, why: error });
        })));
        return this.#tell("connect");
      } catch (error) {
        why = error;
      }
    }
    if (!this.#closed) await this.close();
  }

  // --- frames ---

  #send(frame) {
    if (!this.isConnected || this.#socket.readyState !== WebSocket.OPEN) {
      throw new KcpqError("disconnected", "there is no connection");
    }
    if (this.#socket.bufferedAmount + frame.length > MAX_BUFFERED) {
      throw new KcpqError("full", `more than ${MAX_BUFFERED} bytes wait to be sent`);
    }
    this.#socket.send(frame);
  }

  #publish(subject, payload, options) {
    const [properties, bytes] = [encodeProperties(options), bytesOf(payload)];
    const frame = properties.length === 0
      ? encodeFrame(command.PUB, subject, bytes)
      : encodeFrame(command.PUBX, subject, concat([bytes, properties]));
    if (this.#server && frame.length - 4 > this.#server.maxBody) {
      throw new KcpqError("too_large", `a message of ${frame.length} bytes, the server takes ${this.#server.maxBody}`);
    }
    this.#send(frame);
  }

  #number() {
    this.#numbers = (this.#numbers + 1) >>> 0;
    return this.#numbers;
  }

  #wait(number, timeout, what, stores = false) {
    return new Promise((resolve, reject) => {
      const fail = () => this.#settle(number)?.reject(new KcpqError("timeout", `${what} in ${timeout} ms`));
      this.#waiting.set(number, { resolve, reject, stores, timer: setTimeout(fail, timeout) });
    });
  }

  #settle(number) {
    const waiting = this.#waiting.get(number);
    this.#waiting.delete(number);
    clearTimeout(waiting?.timer);
    return waiting;
  }

  async #ask(subscription) {
    subscription.number = this.#number();
    const { pattern, options, number } = subscription;
    this.#subscriptions.set(number, subscription);
    const answer = this.#wait(number, PATIENCE, `no word of ${pattern}`);
    try {
      this.#send(encodeFrame(command.SUB, pattern, subscribePayload(number, options)));
    } catch (error) {
      this.#settle(number)?.reject(error);
    }
    try {
      await answer;
    } catch (error) {
      this.#subscriptions.delete(number);
      throw error;
    }
  }

  #take({ command: which, subject, payload }) {
    if (which === command.MSG) return this.#deliver(decoder.decode(subject), { payload });
    if (which === command.MSGX) {
      const parts = decodeMessage(payload);
      return parts && this.#deliver(decoder.decode(subject), parts);
    }
    if (which === command.PONG) {
      const ping = this.#pings.shift();
      clearTimeout(ping?.timer);
      return ping?.resolve();
    }
    if (which === command.ACK || which === command.PUBACK) {
      if (payload.length < 5) return;
      const [waiting, code, text] = [this.#settle(readU32(payload, 0)), payload[4], decoder.decode(subject)];
      if (code !== 0) {
        const name = (which === command.PUBACK && { 6: "no_stream", 7: "in_doubt" }[code]) || "refused";
        return waiting?.reject(new KcpqError(name, text || `refused, reason ${code}`));
      }
      if (waiting?.stores) {
        if (payload.length < 18) return waiting.reject(new KcpqError("unsupported", "the server stores no messages"));
        const sequence = readU32(payload, 9) * 2 ** 32 + readU32(payload, 13);
        return waiting.resolve({ sequence, duplicate: (payload[17] & 1) !== 0 });
      }
      return waiting?.resolve(payload.length >= 9 ? readU32(payload, 5) : undefined);
    }
    if (which === command.ERR) this.#denied(decoder.decode(subject), payload);
  }

  #denied(text, payload) {
    const about = payload.length > 1 ? decoder.decode(payload.subarray(1)) : undefined;
    if (payload[0] === 2) {
      for (const [number, subscription] of this.#subscriptions) {
        if (subscription.pattern !== about) continue;
        this.#subscriptions.delete(number);
        subscription.end();
      }
      return this.#tell("ended", { pattern: about, why: new KcpqError("denied", text) });
    }
    this.#tell("denied", { subject: about, text });
  }

  #deliver(subject, parts) {
    if (parts.status === NOBODY) {
      const request = this.#requestOf(subject);
      return request?.reject(new KcpqError("nobody", "nobody is subscribed who could answer"));
    }
    if (parts.status !== undefined) return;
    // Of members of queue groups, and of kept values, one subscription alone.
    const number = parts.member ?? parts.kept?.number;
    const all = number === undefined ? this.#subscriptions.values() : [this.#subscriptions.get(number)];
    for (const subscription of [...all]) {
      const wants = number !== undefined || (!subscription.options.queue && matches(subscription.pattern, subject));
      if (!subscription || !wants) continue;
      try {
        subscription.deliver(new Message(this, subject, parts));
      } catch (error) {
        reportError(error); // the page's own, which is no reason to lose messages
      }
    }
  }

  #requestOf(subject) {
    const token = subject.slice(subject.lastIndexOf(".") + 1);
    const request = this.#inbox && subject.startsWith(`${this.#inbox.prefix}.`) ? this.#requests.get(token) : undefined;
    clearTimeout(request?.timer);
    this.#requests.delete(token);
    return request;
  }

  #answered(message) {
    this.#requestOf(message.subject)?.resolve(message);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

const subscribePayload = (number, { latest, queue, withoutKept, lane } = {}) => {
  const group = queue === undefined ? [] : bytesOf(queue);
  const options = (latest ? 1 : 0) | (queue === undefined ? 0 : 2) | (withoutKept ? 4 : 0) | (lane === undefined ? 0 : 8);
  if (options === 0) return Uint8Array.from(u32(number));
  const named = queue === undefined ? [] : [group.length, ...group];
  return Uint8Array.from([...u32(number), options, ...named, ...(lane === undefined ? [] : [lane])]);
};

/** Where the server of this page is. */
const here = () => `${/^https/.test(location.protocol) ? "wss" : "ws"}://${location.host}/ws`;

/**
 * Connects: to the server of this page, or to another one. Ready when that has answered; a connection that is lost later comes
 * back by itself, with all subscriptions.
 */
export const connect = async (url = here(), options = {}) => {
  if (typeof url !== "string") [url, options] = [here(), url];
  const client = new Client(url, options);
  await client.open();
  return client;
};
