import { describe, expect, it } from "vitest";
import { backOff, LiveSocket, type World } from "./socket";
import { Store, type MapState } from "./store";
import { SENTENCES } from "./closed";
import { delta, keyframe, record } from "./testing";

class FakeSocket {
  readyState = 0;
  binaryType = "";
  sent: { type: string; topic?: string; last?: number | null; hz?: number }[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string | ArrayBuffer }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  send(raw: string): void { this.sent.push(JSON.parse(raw) as FakeSocket["sent"][number]); }
  close(): void { this.readyState = 3; }
  open(): void { this.readyState = 1; this.onopen?.(); }
  drop(code = 1006, reason = ""): void { this.readyState = 3; this.onclose?.({ code, reason }); }
  give(data: string | ArrayBuffer): void { this.onmessage?.({ data }); }
}

function bench(get?: World["get"]) {
  const sockets: FakeSocket[] = [];
  const timers: { at: number; then: () => void }[] = [];
  let now = 0;
  const world: World = {
    open: () => { const made = new FakeSocket(); sockets.push(made); return made as unknown as WebSocket; },
    random: () => 0.5,
    now: () => now,
    after: (ms, then) => {
      const timer = { at: now + ms, then };
      timers.push(timer);
      return () => { const i = timers.indexOf(timer); if (i >= 0) timers.splice(i, 1); };
    },
  };
  const pass = (ms: number): void => {
    const end = now + ms;
    for (;;) {
      const next = timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      timers.splice(timers.indexOf(next), 1);
      now = next.at;
      next.then();
    }
    now = end;
  };
  /** The clock goes on, and of all that was due meanwhile only what waits now is done, at the end. */
  const late = (ms: number): void => {
    now += ms;
    for (const timer of timers.splice(0)) timer.then();
  };
  if (get !== undefined) world.get = get;
  const store = new Store();
  const socket = new LiveSocket("ws://x/ws/", store, () => undefined, () => undefined, world);
  return { sockets, socket, store, pass, late, latest: () => sockets.at(-1) as FakeSocket };
}

const settle = async (): Promise<void> => { for (let i = 0; i < 5; i++) await new Promise((done) => setTimeout(done, 5)); };
const MAP = "run/1/map";

describe("the socket", () => {
  it("waits from 0.5 to 15 s, never less, never more", () => {
    for (let attempt = 0; attempt < 40; attempt++) {
      for (const random of [0, 0.3, 0.999]) {
        expect(backOff(attempt, random)).toBeGreaterThanOrEqual(500);
        expect(backOff(attempt, random)).toBeLessThanOrEqual(15_000);
      }
    }
    expect(backOff(0, 1)).toBe(500);
    expect(backOff(20, 1)).toBe(15_000);
  });

  it("asks for each topic on opening, and after a drop with the last number seen", async () => {
    const { socket, latest, sockets, pass } = bench();
    socket.watch(MAP);
    socket.connect();
    latest().open();
    expect(latest().sent).toEqual([{ type: "subscribe", topic: MAP, last: null }]);
    latest().give(keyframe({ run: 1, seq: 7, map: Uint8Array.of(0, 1) }));
    await settle();
    latest().drop();
    expect(socket.connection).toBe("reconnecting");
    pass(15_000);
    expect(sockets.length).toBe(2);
    latest().open();
    expect(latest().sent).toEqual([{ type: "subscribe", topic: MAP, last: 7 }]);
    expect(socket.connection).toBe("live");
  });

  it("repairs a gap by asking once, and applies frames in order though keyframes inflate slowly", async () => {
    const { socket, latest, store } = bench();
    socket.watch(MAP);
    socket.connect();
    latest().open();
    latest().give(keyframe({ run: 1, seq: 1, map: new Uint8Array(100_000) }));
    latest().give(delta({ run: 1, seq: 2, base: 1, changes: [[5, 3]] }));
    latest().give(delta({ run: 1, seq: 4, base: 3, changes: [[6, 3]] }));
    latest().give(delta({ run: 1, seq: 5, base: 4, changes: [[7, 3]] }));
    await settle();
    const state = store.get(MAP) as MapState;
    expect([state.seq, state.map[5], state.map[6]]).toEqual([2, 3, 0]);
    expect(latest().sent.slice(1)).toEqual([{ type: "subscribe", topic: MAP, last: 2 }]);
    latest().give(JSON.stringify({ type: "replay", topic: MAP, from: 3, to: 5 }));
    latest().give(delta({ run: 1, seq: 3, base: 2, changes: [] }));
    latest().give(delta({ run: 1, seq: 4, base: 3, changes: [[6, 3]] }));
    latest().give(delta({ run: 1, seq: 5, base: 4, changes: [[7, 3]] }));
    await settle();
    expect([state.seq, state.map[6], state.map[7]]).toEqual([5, 3, 3]);
  });

  it("asks from scratch after a damaged frame and keeps what it has", async () => {
    const { socket, latest, store } = bench();
    socket.watch(MAP);
    socket.connect();
    latest().open();
    latest().give(keyframe({ run: 1, seq: 1, map: Uint8Array.of(0, 0) }));
    const broken = new Uint8Array(delta({ run: 1, seq: 2, base: 1, changes: [[0, 1]] }));
    broken[40] = 77;
    latest().give(broken.buffer);
    await settle();
    expect(latest().sent.at(-1)).toEqual({ type: "subscribe", topic: MAP, last: null });
    expect(store.seq(MAP)).toBe(1);
  });

  it("lets go of a paused topic and takes it up again where it stood", async () => {
    const { socket, latest, store } = bench();
    socket.watch(MAP);
    socket.connect();
    latest().open();
    latest().give(keyframe({ run: 1, seq: 1, map: Uint8Array.of(0) }));
    await settle();
    socket.unwatch(MAP);
    latest().give(delta({ run: 1, seq: 2, base: 1, changes: [[0, 1]] }));
    await settle();
    expect(store.seq(MAP)).toBe(1);
    socket.watch(MAP);
    expect(latest().sent.slice(1)).toEqual([{ type: "unsubscribe", topic: MAP }, { type: "subscribe", topic: MAP, last: 1 }]);
  });

  it("asks hidden tabs' rate down and catches up on return", () => {
    const { socket, latest } = bench();
    socket.watch(MAP);
    socket.connect();
    latest().open();
    socket.setHidden(true);
    socket.setHidden(false);
    expect(latest().sent.slice(1)).toEqual([{ type: "rate", hz: 1 }, { type: "rate", hz: 20 }, { type: "subscribe", topic: MAP, last: null }]);
  });

  it("asks a silent server for a word, and leaves a connection that says none within ten seconds", async () => {
    const { socket, latest, sockets, pass } = bench();
    socket.connect();
    latest().open();
    pass(5_000);
    expect(latest().sent).toEqual([{ type: "ping" }]);
    latest().give('{"v":1,"type":"pong"}');
    await settle();
    pass(4_900);
    latest().give('{"v":1,"type":"pong"}');
    await settle();
    pass(10_000); // at 10 s it was heard just now; at 15 s it is asked again
    expect([latest().sent.length, sockets.length, socket.connection]).toEqual([2, 1, "live"]);
    pass(5_000);
    expect(sockets.length).toBe(1);
    pass(6_000);
    expect([latest().sent.length, sockets.length, socket.connection]).toEqual([0, 2, "reconnecting"]);
  });

  it("is not misled by timers that run late in a hidden tab", async () => {
    const { socket, latest, sockets, late } = bench();
    socket.connect();
    latest().open();
    for (let minute = 0; minute < 3; minute++) {
      late(60_000);
      latest().give('{"v":1,"type":"pong"}');
      await settle();
    }
    expect([latest().sent.map((each) => each.type), sockets.length]).toEqual([["ping", "ping", "ping"], 1]);
  });

  it("stays quiet after its rights were taken, until the reader asks", () => {
    const { socket, latest, sockets, pass } = bench();
    socket.connect();
    latest().open();
    latest().drop(4003, "You no longer have access.");
    pass(120_000);
    expect([sockets.length, socket.connection, socket.ended]).toEqual([1, "offline", "You no longer have access."]);
    socket.reconnectNow();
    expect(sockets.length).toBe(2);
  });

  it("says a sentence of its own for each close code, and tries again where that can help", () => {
    const said = new Set<string>();
    for (const [code, again] of [[1009, false], [4001, true], [4003, false], [4008, true], [4009, false], [4029, true]] as const) {
      const { socket, latest, sockets, pass } = bench();
      socket.connect();
      latest().open();
      latest().drop(code);
      expect(socket.notice).toBe(SENTENCES[code]);
      said.add(socket.notice);
      pass(15_000);
      expect([code, sockets.length > 1]).toEqual([code, again]);
      if (!again) continue;
      latest().open();
      expect(socket.notice).toBe("");
    }
    expect(said.size).toBe(6);
  });

  it("keeps saying that there is no room until a socket gets in, and with how many it was full", async () => {
    const { socket, latest, sockets, pass } = bench();
    socket.watch(MAP);
    socket.connect();
    for (const [reason, words] of [["organisation 500", "Your organisation has 500 live pages open"], ["person 100", "You have 100 live pages open"]] as const) {
      latest().open();
      latest().drop(4029, reason);
      expect([socket.notice.startsWith(words), socket.connection]).toEqual([true, "reconnecting"]);
      pass(15_000);
    }
    const before = sockets.length;
    latest().open();
    expect([socket.notice.startsWith("You have 100"), socket.connection]).toEqual([true, "reconnecting"]);
    latest().give(keyframe({ run: 1, seq: 1, map: Uint8Array.of(0) }));
    await settle();
    expect([socket.notice, socket.connection, sockets.length]).toEqual(["", "live", before]);
    for (const reason of ["", "person", "person many", "nobody 5", "organisation -1"]) {
      latest().drop(4029, reason);
      expect(socket.notice).toBe(SENTENCES[4029]);
      pass(15_000);
      latest().open();
    }
  });

  it("polls where no socket ever opens, and stops as soon as one does", async () => {
    const asked: string[] = [];
    const answers = [record(keyframe({ run: 1, seq: 3, map: Uint8Array.of(0, 1) })), record(delta({ run: 1, seq: 4, base: 3, changes: [[0, 3]] }))];
    const { socket, latest, pass, store } = bench((url) => { asked.push(url); return Promise.resolve(answers.shift() ?? new ArrayBuffer(0)); });
    socket.watch(MAP);
    socket.connect();
    for (let i = 0; i < 2; i++) { latest().drop(); pass(15_000); }
    expect(asked).toEqual([]);
    latest().drop();
    await settle();
    expect([asked, store.seq(MAP), socket.connection]).toEqual([[`/live/newest/?t=${MAP}`], 3, "live"]);
    expect(socket.notice).toContain("every 2 s");
    pass(1_999);
    expect(asked.length).toBe(1);
    pass(1);
    await settle();
    expect([asked[1], store.seq(MAP)]).toEqual([`/live/newest/?t=${MAP}:3`, 4]);
    pass(15_000);
    latest().open();
    const before = asked.length;
    pass(15_000);
    await settle();
    expect([asked.length, socket.notice]).toEqual([before, ""]);
  });

  it("gives up a connection that died without a word, and says offline after a minute", () => {
    const { socket, latest, sockets, pass } = bench();
    socket.connect();
    latest().open();
    pass(61_000);
    expect(sockets.length).toBeGreaterThan(1);
    for (let i = 0; i < 20; i++) { latest().drop(); pass(15_000); }
    expect(socket.connection).toBe("offline");
    latest().open();
    expect(socket.connection).toBe("live");
  });
});
