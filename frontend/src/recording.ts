/** Plays a recorded run through the same store as the socket: play, pause, step back and forward, marks, captions. No DOM. */

import { isFrame, readBinary, readText, WireError, type Frame, type Message } from "./wire";
import type { Store } from "./store";

export interface Entry { at: number; message: Message }
export interface Mark { index: number; at: number; name: string }

const RECORD_HEAD = 9;
/** A mark of this name stops the playback until the reader goes on. */
const WAIT = "wait";

/** All records of the file in order, every keyframe inflated, so that stepping never waits. */
export async function readRecording(buffer: ArrayBuffer): Promise<Entry[]> {
  const view = new DataView(buffer);
  const entries: Entry[] = [];
  for (let at = 0; at < buffer.byteLength; ) {
    if (at + RECORD_HEAD > buffer.byteLength) throw new WireError("the recording ends inside a record");
    const type = view.getUint8(at + 4);
    const from = at + RECORD_HEAD;
    const to = from + view.getUint32(at + 5, true);
    if (to > buffer.byteLength) throw new WireError("the recording ends inside a record");
    if (type > 1) throw new WireError(`unknown record type ${type}`);
    const payload = buffer.slice(from, to);
    entries.push({ at: view.getUint32(at, true), message: type === 1 ? await readBinary(payload) : readText(new TextDecoder().decode(payload)) });
    at = to;
  }
  return entries;
}

export class Player {
  /** Number of records shown so far. */
  index = 0;
  /** Milliseconds since the start of the recording. */
  time = 0;
  playing = false;
  waiting = false;
  caption = "";
  readonly duration: number;
  readonly marks: Mark[];
  /** Newest topic of each kind ("map", "tlb", ...): a story may move from one run to another. */
  private readonly newest = new Map<string, string>();

  constructor(private readonly entries: readonly Entry[], private readonly store: Store, private readonly changed: () => void) {
    this.duration = entries.at(-1)?.at ?? 0;
    this.marks = entries.flatMap(({ at, message }, index) =>
      "type" in message && message.type === "mark" && message.name !== WAIT ? [{ index: index + 1, at, name: message.name }] : []);
  }

  topic(kind: string): string | undefined {
    return this.newest.get(kind);
  }

  get ended(): boolean {
    return this.index >= this.entries.length;
  }

  play(): void {
    if (this.ended) this.seek(0);
    this.playing = true;
    this.waiting = false;
    this.changed();
  }

  pause(): void {
    this.playing = false;
    this.changed();
  }

  /** Time passes while playing; everything due is shown. */
  tick(ms: number): void {
    if (!this.playing) return;
    this.time += ms;
    while (!this.ended && (this.entries[this.index] as Entry).at <= this.time) {
      if (!this.showNext()) continue;
      this.playing = false;
      this.waiting = true;
      this.time = this.entries[this.index - 1]?.at ?? this.time;
      break;
    }
    if (this.ended) this.playing = false;
    this.changed();
  }

  /** To the previous moment at which something was shown: exactly the state that stood there. */
  stepBack(): void {
    const now = this.entries[this.index - 1]?.at;
    let index = this.index;
    while (index > 0 && (this.entries[index - 1] as Entry).at === now) index--;
    this.playing = this.waiting = false;
    if (index > 0) this.seek(index);
    else this.changed();
  }

  stepForward(): void {
    this.playing = this.waiting = false;
    const at = this.entries[this.index]?.at;
    while (!this.ended && (this.entries[this.index] as Entry).at === at) this.showNext();
    if (at !== undefined) this.time = at;
    this.changed();
  }

  skipToMark(): void {
    const mark = this.marks.find(({ index }) => index > this.index);
    this.seek(mark?.index ?? this.entries.length);
  }

  seekTime(ms: number): void {
    const index = this.entries.findIndex(({ at }) => at > ms);
    this.seek(index < 0 ? this.entries.length : index);
    this.time = Math.min(ms, this.duration);
  }

  /** Shows exactly the first `index` records. Backwards: each topic anew from its last keyframe before that. */
  seek(index: number): void {
    if (index < this.index) {
      for (const topic of this.store.topics()) this.store.forget(topic);
      this.newest.clear();
      this.caption = "";
      const from = new Map<string, number>();
      for (let i = 0; i < index; i++) {
        const { message } = this.entries[i] as Entry;
        if (isFrame(message) && message.kind === "keyframe") from.set(message.topic, i);
      }
      for (let i = 0; i < index; i++) {
        const { message } = this.entries[i] as Entry;
        if (!isFrame(message) || i >= (from.get(message.topic) ?? index)) this.show(message);
      }
      this.index = index;
    } else while (this.index < index) this.showNext();
    this.time = this.entries[index - 1]?.at ?? 0;
    this.changed();
  }

  /** Whether the playback has to wait after this record. */
  private showNext(): boolean {
    return this.show((this.entries[this.index++] as Entry).message);
  }

  private show(message: Message): boolean {
    if (isFrame(message)) {
      this.newest.set(kindOf(message), message.topic);
      this.store.apply(message);
    } else if (message.type === "caption") this.caption = message.text;
    else return message.type === "mark" && message.name === WAIT;
    return false;
  }
}

const kindOf = (frame: Frame): string => (frame.type === "other" ? frame.topic : frame.type);
