/** The page's one websocket. Every topic asked for is live again after any break: back-off, resume by last number, gap -> ask. */

import { FINAL, POLLING, SENTENCES, tooMany } from "./closed";
import { readRecording } from "./recording";
import type { Store } from "./store";
import { isFrame, readBinary, readText, WireError, type Control, type Message, type Request } from "./wire";

export type Connection = "live" | "reconnecting" | "offline";

/** What the socket needs of the world; tests bring their own. */
export interface World {
  open(url: string): WebSocket;
  random(): number;
  now(): number;
  after(ms: number, then: () => void): () => void;
  /** What polling asks for; absent: there is no polling. */
  get?(url: string): Promise<ArrayBuffer>;
}

const browser: World = {
  open: (url) => new WebSocket(url),
  random: Math.random,
  now: Date.now,
  after: (ms, then) => {
    const timer = setTimeout(then, ms);
    return () => clearTimeout(timer);
  },
  get: async (url) => {
    const answer = await fetch(url, { cache: "no-store" });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return answer.arrayBuffer();
  },
};

const FIRST = 500;
const LONGEST = 15_000;
/** After so long without a word the server is asked for one, and given so long to say it: it may be busy. */
const SILENCE = 5_000;
const ANSWER = 10_000;
const OFFLINE_AFTER = 60_000;
const RIGHTS_CHANGED = 4003;
const TOO_MANY = 4029;
const POLL_EVERY = 2_000;
/** So many tries in a row that never opened: websockets are refused, not only lost. */
const REFUSED = 3;
const ASK_EVERY = 300;

/** Wait before try number `attempt` (0, 1, ...): doubles from 0.5 s to 15 s, of which the upper half is chance. */
export function backOff(attempt: number, random: number): number {
  const full = Math.min(LONGEST, FIRST * 2 ** Math.min(attempt, 10));
  return Math.max(FIRST, full * (0.5 + random / 2));
}

export class LiveSocket {
  connection: Connection = "reconnecting";
  /** Time of the last message; what the chip calls the age of the data. */
  heardAt: number;
  /** A sentence for the reader when the server ended the connection for good. */
  ended = "";
  /** A sentence about the connection while there is something to say of it: why it ended, or that the page polls. */
  notice = "";

  private socket: WebSocket | null = null;
  private attempt = 0;
  private lostAt: number;
  private cancelRetry = (): void => undefined;
  private cancelPing = (): void => undefined;
  private cancelPoll = (): void => undefined;
  private hidden = false;
  private unopened = 0;
  /** The last socket found no room: until the next one is sent something, what the reader was told stays. */
  private noRoom = false;
  private polling = false;
  private readonly topics = new Set<string>();
  private readonly asked = new Map<string, number>();
  private queue: Promise<void> = Promise.resolve();

  constructor(
    private readonly url: string,
    private readonly store: Store,
    private readonly changed: () => void,
    private readonly control: (message: Control) => void = () => undefined,
    private readonly world: World = browser,
  ) {
    this.heardAt = this.lostAt = world.now();
  }

  connect(): void {
    this.cancelRetry();
    if (this.socket !== null || this.ended !== "") return;
    const socket = this.world.open(this.url);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.opened(socket);
    socket.onmessage = (event: MessageEvent<string | ArrayBuffer>) => {
      // One at a time and in order: inflating a keyframe takes several turns of the event loop.
      this.queue = this.queue.then(() => this.received(socket, event.data));
    };
    socket.onclose = (event) => this.closed(socket, event.code, event.reason);
  }

  /** Leaves the waiting out: the button "Reconnect now". */
  reconnectNow(): void {
    this.attempt = 0;
    this.ended = this.notice = "";
    this.socket?.close();
    if (this.socket !== null) this.closed(this.socket, 1000, "");
    this.connect();
  }

  watch(topic: string): void {
    if (this.topics.has(topic)) return;
    this.topics.add(topic);
    this.ask(topic);
  }

  unwatch(topic: string): void {
    if (this.topics.delete(topic)) this.send({ type: "unsubscribe", topic });
  }

  /** Hidden tabs get one frame a second; on return each topic catches up from its last number. */
  setHidden(hidden: boolean): void {
    if (hidden === this.hidden) return;
    this.hidden = hidden;
    this.send({ type: "rate", hz: hidden ? 1 : 20 });
    if (!hidden) for (const topic of this.topics) this.ask(topic);
  }

  private opened(socket: WebSocket): void {
    if (socket !== this.socket) return;
    this.heardAt = this.world.now();
    this.asked.clear();
    this.unopened = 0;
    this.polling = false;
    if (!this.noRoom) this.live();
    if (this.hidden) this.send({ type: "rate", hz: 1 });
    for (const topic of this.topics) this.ask(topic);
    this.ping();
  }

  private live(): void {
    this.noRoom = false;
    this.notice = "";
    this.setConnection("live");
  }

  /** Finds out a connection that died without a word. `asked`: when a ping was sent that nothing followed yet. Timers of
   *  a hidden tab run late: what counts is what came after the ping, not how long ago the last message was. */
  private ping(asked: number | null = null): void {
    this.cancelPing = this.world.after(SILENCE, () => {
      const now = this.world.now();
      const waits = asked !== null && this.heardAt < asked;
      if (waits && now - asked >= ANSWER && this.socket !== null) {
        const dead = this.socket;
        dead.close();
        this.closed(dead, 1006, "");
        return;
      }
      const silent = now - this.heardAt >= SILENCE;
      if (silent && !waits) this.send({ type: "ping" });
      this.ping(waits ? asked : silent ? now : null);
    });
  }

  private async received(socket: WebSocket, data: string | ArrayBuffer): Promise<void> {
    if (socket !== this.socket) return;
    this.heardAt = this.world.now();
    try {
      const message = typeof data === "string" ? readText(data) : await readBinary(data);
      if (socket !== this.socket) return;
      this.attempt = 0;
      if (this.noRoom) this.live();
      this.take(message);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      console.warn(`message not understood: ${error.message}`);
      // The frame's topic cannot be trusted, so every binary topic is asked for from scratch.
      if (typeof data !== "string") for (const topic of this.topics) if (topic.endsWith("/map")) this.repair(topic, null);
    }
  }

  private take(message: Message): void {
    if (!isFrame(message)) {
      if ("topic" in message) this.asked.delete(message.topic);
      if (message.type === "denied" || message.type === "gone") this.topics.delete(message.topic);
      this.control(message);
    } else if (this.topics.has(message.topic)) {
      const applied = this.store.apply(message);
      if (applied === "applied") this.asked.delete(message.topic);
      if (applied === "gap") this.repair(message.topic);
    }
  }

  /** Where websockets are refused: the same messages by plain requests, until a socket opens. */
  private async poll(): Promise<void> {
    if (!this.polling || this.world.get === undefined || this.ended !== "") return;
    const asked = [...this.topics].map((topic) => `t=${topic}${this.store.seq(topic) === null ? "" : `:${this.store.seq(topic)}`}`);
    try {
      if (asked.length > 0 && !this.hidden) {
        const entries = await readRecording(await this.world.get(`/live/newest/?${asked.join("&")}`));
        if (!this.polling) return;
        for (const { message } of entries) this.take(message);
        this.heardAt = this.lostAt = this.world.now();
        this.notice = POLLING;
        this.setConnection("live");
      }
    } catch (error) {
      console.warn(`polling failed: ${error instanceof Error ? error.message : String(error)}`);
      this.lost();
    }
    this.cancelPoll = this.world.after(POLL_EVERY, () => void this.poll());
  }

  /** Asks for what is missing, once per ASK_EVERY: the frames already under way behind the gap ask nothing. */
  private repair(topic: string, last: number | null = this.store.seq(topic)): void {
    const now = this.world.now();
    if (now - (this.asked.get(topic) ?? -ASK_EVERY) < ASK_EVERY) return;
    this.asked.set(topic, now);
    this.send({ type: "subscribe", topic, last });
  }

  private ask(topic: string): void {
    this.send({ type: "subscribe", topic, last: this.store.seq(topic) });
  }

  private send(request: Request): void {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(request));
  }

  private closed(socket: WebSocket, code: number, reason: string): void {
    if (socket !== this.socket) return;
    this.socket = null;
    this.cancelPing();
    const full = code === TOO_MANY ? tooMany(reason) : "";
    this.noRoom = full !== "";
    this.notice = full || (SENTENCES[code] ?? this.notice);
    if (this.connection === "live") this.lostAt = this.world.now();
    if (FINAL.has(code)) {
      this.ended = this.notice = (code === RIGHTS_CHANGED && reason) || this.notice;
      this.setConnection("offline");
      return;
    }
    if (++this.unopened >= REFUSED && !this.polling && this.world.get !== undefined) {
      this.polling = true;
      this.cancelPoll();
      void this.poll();
    } else if (!this.polling) this.lost();
    this.cancelRetry = this.world.after(backOff(this.attempt++, this.world.random()), () => this.connect());
  }

  private lost(): void {
    this.setConnection(this.world.now() - this.lostAt > OFFLINE_AFTER ? "offline" : "reconnecting");
  }

  private setConnection(connection: Connection): void {
    this.connection = connection;
    this.changed();
  }
}
