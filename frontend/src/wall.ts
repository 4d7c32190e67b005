/** The fleet wall: keeps the cells of the server's table up to date and their age by the server's clock, with or without a socket. */

import { Chip } from "./chip";
import { tellConnection } from "./closed";
import { el, schedule } from "./dom";
import { follow } from "./refresh";
import { LiveSocket } from "./socket";
import { Store } from "./store";
import { ageWords, readCells, readsAs, ServerClock, type Cell } from "./wall_model";
import { say, t } from "./words";

const STATES_TOPIC = "wall";
const TELL_EVERY = 10_000;
const MOST_TOLD = 50;
/** Of a state: its word and its look, as the server's table has them. */
const WORDS: Record<string, [string, string]> = {
  ok: [t("OK"), "ok"], degraded: [t("Degraded"), "warning"], violation: [t("Violation"), "violation"], unknown: [t("Unknown"), "unknown"],
  none: [t("Not on this machine"), "neutral"], idle: [t("Nothing runs"), "neutral"],
};

class Wall {
  private readonly store = new Store();
  private readonly socket: LiveSocket;
  private readonly chip: Chip | null;
  private readonly clock: ServerClock;
  private topics: string[] = [];
  private drop: (() => void)[] = [];
  private paused = false;
  private renew: () => void = () => undefined;
  private readonly delays: number[] = [];
  /** Topics that have been brought up to date since the connection stands: what comes first is as old as the break was long. */
  private readonly current = new Set<string>();

  constructor(private readonly root: HTMLElement) {
    const [loaded] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
    this.clock = new ServerClock(Number(root.dataset["now"]), performance.timeOrigin + (loaded?.responseStart ?? performance.now()));
    const address = new URL("/ws/", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new LiveSocket(address.href, this.store, () => this.status());
    const host = document.querySelector<HTMLElement>("[data-part=live-chip]");
    this.chip = host === null ? null : new Chip(host, () => this.pause(), () => this.socket.reconnectNow());
  }

  start(): void {
    this.root.dataset["refresh"] = STATES_TOPIC;
    this.renew = follow(this.root, this.store, this.socket);
    for (const part of document.querySelectorAll<HTMLElement>("[data-refresh]")) if (part !== this.root) follow(part, this.store, this.socket);
    this.listen();
    // The part is fetched anew when a state changes: other hosts may stand in it then.
    new MutationObserver(() => this.listen()).observe(this.root, { childList: true });
    this.socket.connect();
    document.addEventListener("visibilitychange", () => {
      this.current.clear();
      this.socket.setHidden(document.hidden);
    });
    addEventListener("online", () => this.socket.reconnectNow());
    setInterval(() => this.status(), 250);
    setInterval(() => void this.tell(), TELL_EVERY);
    this.status();
  }

  /** Watches the topics of the hosts that stand on the page now. */
  private listen(): void {
    const now = (this.root.querySelector<HTMLElement>("[data-topics]")?.dataset["topics"] ?? "").split(" ").filter(Boolean);
    if (now.join() === this.topics.join()) return this.age();
    for (const each of this.drop) each();
    for (const topic of this.topics) if (!now.includes(topic)) {
      this.socket.unwatch(topic);
      this.store.forget(topic);
      this.current.delete(topic);
    }
    this.topics = now;
    this.drop = now.map((topic) => this.store.subscribe(topic, () => this.take(topic)));
    if (!this.paused) for (const topic of now) this.socket.watch(topic);
    this.age();
  }

  private take(topic: string): void {
    const state = this.store.get(topic);
    if (state?.type !== "other") return;
    const { cells, now } = readCells(state.data);
    this.clock.told(now, Date.now());
    const counts = this.current.has(topic);
    this.current.add(topic);
    schedule(() => {
      for (const cell of cells) this.show(cell, counts);
    });
  }

  /** Shows a cell; `counts`: how long it took tells of the way from its measurement. */
  private show(cell: Cell, counts: boolean): void {
    const row = this.root.querySelector<HTMLElement>(`tr[data-host="${cell.host}"]`);
    const place = row?.querySelector<HTMLElement>(`td[data-check="${CSS.escape(cell.check)}"]`);
    if (!place) return;  // a host that began to run has its cells when the part comes anew
    const before = Number(place.dataset["at"] ?? 0);
    if (cell.at <= before) return;
    place.dataset["at"] = String(cell.at);
    place.dataset["measured"] = cell.state;
    place.dataset["why"] = cell.why;
    const now = this.clock.at(Date.now());
    this.draw(place, now);
    if (!counts) return;
    place.dataset["paintedAt"] = String(Math.round(now));  // with this frame
    if (this.delays.length < MOST_TOLD) this.delays.push(Math.max(0, Math.round(now - cell.at)));
  }

  private draw(place: HTMLElement, now: number): void {
    const at = place.dataset["at"] === undefined ? null : Number(place.dataset["at"]);
    const measured = place.dataset["measured"] ??= place.dataset["state"] ?? "ok";
    const state = readsAs(measured, at, now, 1000 * Number(this.root.dataset["unknownAfter"]));
    const [word, look] = WORDS[state] ?? [state, "unknown"];
    const face = place.querySelector(".status");
    if (face !== null && (face.textContent !== word || place.dataset["state"] !== state)) {
      face.className = `status status-${look}`;
      face.textContent = word;
      // Counts and order are the server's: they follow when a cell turns unknown by the clock alone.
      if (state === "unknown" && place.dataset["state"] !== "unknown") this.renew();
      place.dataset["state"] = state;
    }
    const age = place.querySelector(".wall-age");
    if (age !== null) age.textContent = at === null || state === "idle" ? "" : ageWords((now - at) / 1000);
    const told = place.querySelector(".wall-why");
    const why = state === "unknown" ? (measured === "unknown" ? told?.textContent ?? "" : t("was: {word}", { word: WORDS[measured]?.[0] ?? measured })) : place.dataset["why"] === undefined ? told?.textContent ?? "" : say(place.dataset["why"]);
    if ((told?.textContent ?? "") === why) return;
    told?.remove();
    if (why !== "") place.append(el("span", { class: "wall-why" }, why));
  }

  /** Ages every cell: one whose age passes three intervals turns unknown, also while nothing comes from the server. */
  private age(): void {
    const now = this.clock.at(Date.now());
    for (const place of this.root.querySelectorAll<HTMLElement>("td[data-check]")) this.draw(place, now);
  }

  private status(): void {
    this.age();
    const live = this.socket.connection;
    if (live !== "live" || this.paused) this.current.clear();
    const state = live !== "live" ? live : this.paused ? "paused" : "live";
    this.root.dataset["state"] = state;
    this.chip?.draw({ state, ageSeconds: Math.max(0, Math.round((Date.now() - this.socket.heardAt) / 1000)), moment: "" });
    tellConnection(this.root, this.socket.notice);
  }

  private pause(): void {
    this.paused = !this.paused;
    for (const topic of [STATES_TOPIC, ...this.topics]) if (this.paused) this.socket.unwatch(topic); else this.socket.watch(topic);
    this.status();
  }

  /** How long cells took to this screen, for the service level. Who only looks around does not tell: it is a write. */
  private async tell(): Promise<void> {
    const form = document.querySelector<HTMLFormElement>("form[data-part=seen]");
    if (form === null || this.delays.length === 0 || document.hidden) return;
    const body = new FormData(form);
    for (const ms of this.delays.splice(0)) body.append("ms", String(ms));
    try {
      await fetch(form.action, { method: "POST", body });
    } catch {
      // Offline: these are not counted.
    }
  }
}

const root = document.querySelector<HTMLElement>("[data-wall]");
if (root !== null) new Wall(root).start();
