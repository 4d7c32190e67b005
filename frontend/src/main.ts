/** Mounts the views named by [data-view], joins them to the socket or a recording, and keeps each root's data-seq and data-state. */

import { AttackLog } from "./attack_log";
import { AttackMatrix } from "./attack_matrix";
import { Chip, type Shown } from "./chip";
import { tellConnection } from "./closed";
import { Counters } from "./counters";
import { el, schedule } from "./dom";
import type { Moment } from "./moments";
import { OwnershipMap } from "./ownership_map";
import { PlayerControls } from "./player";
import { Player, readRecording } from "./recording";
import { follow } from "./refresh";
import { ReplayView } from "./replay";
import { LiveSocket } from "./socket";
import { Store, type MapState, type TopicState } from "./store";
import { Timeline } from "./timeline";
import { TlbGrid } from "./tlb_grid";
import { WalkView } from "./walk";
import { say, t } from "./words";

type Draw = (state: TopicState, store: Store) => void;

/** One row per view: the kind of topic it shows, and how it is put into its root. */
const VIEWS: Record<string, { kind: TopicState["type"]; mount: (root: HTMLElement, redraw: () => void) => Draw }> = {
  "ownership-map": { kind: "map", mount: (root, redraw) => {
    const view = new OwnershipMap(root, redraw);
    root.addEventListener("compare", (event) => view.compareMoments((event as CustomEvent<{ a: MapState; b: MapState } | null>).detail));
    return (state) => state.type === "map" && view.draw(state);
  } },
  tlb: { kind: "tlb", mount: (root, redraw) => {
    const view = new TlbGrid(root, redraw);
    return (state, store) => {
      const map = store.get(root.dataset["shown"]?.replace(/tlb$/, "map") ?? "");
      if (state.type === "tlb") view.draw(state, map?.type === "map" ? map : undefined);
    };
  } },
  counters: { kind: "counters", mount: (root) => {
    const view = new Counters(root);
    return (state) => state.type === "counters" && view.draw(state);
  } },
  "attack-log": { kind: "log", mount: (root) => {
    const view = new AttackLog(root);
    return (state) => state.type === "log" && view.draw(state);
  } },
  "attack-matrix": { kind: "matrix", mount: (root) => {
    const view = new AttackMatrix(root);
    return (state) => state.type === "matrix" && view.draw(state);
  } },
};

interface Mounted { root: HTMLElement; draw: Draw | null; kind: string; player: Player | null; refused: boolean }

class Page {
  private readonly store = new Store();
  private readonly socket: LiveSocket;
  private readonly roots: Mounted[] = [];
  /** What the views and the followed parts are subscribed to; a pause lets exactly these go. */
  private readonly topics = new Set<string>();
  private readonly chip: Chip | null;
  private paused = false;
  private player: Player | null = null;
  private timeline: Timeline | null = null;
  /** The moment that all views show; null: what comes from the socket. */
  private past: Moment | null = null;

  constructor() {
    const address = new URL("/ws/", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new LiveSocket(address.href, this.store, () => this.status(), (message) => {
      if (message.type === "denied" || message.type === "gone") this.refuse(message.topic, message.reason);
      if (message.type === "state") this.runState(message.topic, message.state);
    });
    const host = document.querySelector<HTMLElement>("[data-part=live-chip]");
    this.chip = host === null ? null : new Chip(host, () => this.pause(), () => this.socket.reconnectNow());
  }

  async start(): Promise<void> {
    const roots = [...document.querySelectorAll<HTMLElement>("[data-view]")];
    for (const root of roots) if (root.dataset["recording"] === undefined) this.mountLive(root);
    for (const part of document.querySelectorAll<HTMLElement>("[data-refresh]")) {
      follow(part, this.store, this.socket);
      this.topics.add(part.dataset["refresh"] ?? "");
    }
    const dock = document.querySelector<HTMLElement>("[data-view=timeline]");
    if (dock !== null) this.timeline = new Timeline(dock, { show: (moment) => this.travel(moment), compare: (a, b) => this.compare(a, b) });
    const live = this.roots.length > 0 || document.querySelector("[data-refresh]") !== null;
    if (live) this.socket.connect();
    else if (roots.length === 0) this.chip?.remove();
    document.addEventListener("visibilitychange", () => this.socket.setHidden(document.hidden));
    addEventListener("online", () => live && this.socket.reconnectNow());
    setInterval(() => this.status(), 1000);
    const recorded = roots.filter((root) => root.dataset["recording"] !== undefined);
    const url = recorded[0]?.dataset["recording"];
    if (url !== undefined) await this.playRecording(url, recorded);
    this.status();
  }

  private mountLive(root: HTMLElement): void {
    const view = VIEWS[root.dataset["view"] ?? ""];
    const topic = root.dataset["topic"];
    if (view === undefined || topic === undefined || topic === "") return;
    const mounted: Mounted = { root, draw: null, kind: view.kind, player: null, refused: false };
    this.roots.push(mounted);
    const draw = (): void => this.paint(mounted, topic);
    // The names of a TLB's owners come with the map of the same run.
    for (const each of view.kind === "tlb" ? [topic.replace(/tlb$/, "map"), topic] : [topic]) {
      this.topics.add(each);
      this.store.subscribe(each, () => this.past === null && schedule(draw));
      this.socket.watch(each);
    }
  }

  /** Paints the topic's newest state and, in the same animation frame, says which one it was. */
  private paint(mounted: Mounted, topic: string): void {
    const store = this.past?.store ?? this.store;
    const state = store.get(topic);
    if (state === undefined) return;
    const { root } = mounted;
    root.dataset["shown"] = topic;
    if (mounted.draw === null) {
      // The server's table has done its duty once there is something newer to show.
      for (const fallback of root.querySelectorAll<HTMLElement>("[data-part=fallback]")) fallback.hidden = true;
      mounted.draw = VIEWS[root.dataset["view"] ?? ""]?.mount(root, () => schedule(() => this.paint(mounted, root.dataset["shown"] ?? topic))) ?? null;
    }
    mounted.draw?.(state, store);
    // When this state was first painted: the far end of the delay from the engine to the screen.
    if (root.dataset["seq"] !== String(state.seq) || root.dataset["op"] !== String(state.op)) root.dataset["paintedAt"] = String(Date.now());
    root.dataset["seq"] = String(state.seq);
    root.dataset["op"] = String(state.op);
    root.dataset["state"] = this.stateOf(mounted);
  }

  private async playRecording(url: string, roots: HTMLElement[]): Promise<void> {
    const host = document.querySelector<HTMLElement>("[data-part=player]");
    try {
      const answer = await fetch(url);
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const draw = (): void => {
        for (const each of mounted) this.paint(each, each.root.dataset["topic"] || (player.topic(each.kind) ?? ""));
        controls?.draw();
        this.status();
      };
      const player = new Player(await readRecording(await answer.arrayBuffer()), this.store, () => schedule(draw));
      const controls = host === null ? null : new PlayerControls(host, player);
      const mounted = roots.map((root): Mounted => ({ root, draw: null, kind: VIEWS[root.dataset["view"] ?? ""]?.kind ?? "", player, refused: false }));
      this.roots.push(...mounted);
      this.player = player;
      let before = performance.now();
      setInterval(() => {
        const now = performance.now();
        player.tick(now - before);
        before = now;
      }, 50);
      player.play();
      if (host !== null && matchMedia("(prefers-reduced-motion: reduce)").matches) player.pause();  // a moment without controls is all there is, and does not move
    } catch (error) {
      host?.replaceChildren(el("div", { class: "notice notice-warning", role: "status" },
        el("p", {}, t("The recording could not be opened ({reason}). The story stands below in words; reload the page to try again.", { reason: error instanceof Error ? error.message : String(error) }))));
    }
  }

  /** All views show this moment, or again what is live. */
  private travel(moment: Moment | null): void {
    this.past = moment;
    for (const each of this.roots) if (each.player === null) schedule(() => this.paint(each, each.root.dataset["topic"] ?? ""));
    this.status();
  }

  /** The map shows where two moments differ; nulls end it. */
  private compare(a: Moment | null, b: Moment | null): void {
    for (const { root, kind } of this.roots) {
      const map = (of: Moment): MapState => of.store.get(`run/${of.run}/map`) as MapState;
      if (kind === "map") root.dispatchEvent(new CustomEvent("compare", { detail: a === null || b === null ? null : { a: map(a), b: map(b) } }));
    }
  }

  private stateOf(mounted: Mounted): Shown {
    if (mounted.player !== null || this.past !== null) return "recording";
    if (mounted.refused) return "offline";
    if (this.socket.connection === "live" && this.store.get(mounted.root.dataset["topic"] ?? "") === undefined) return "reconnecting";
    return this.socket.connection !== "live" ? this.socket.connection : this.paused ? "paused" : "live";
  }

  private status(): void {
    for (const mounted of this.roots) {
      const state = this.stateOf(mounted);
      if (mounted.root.dataset["state"] !== state) mounted.root.dataset["state"] = state;
    }
    const seconds = (this.player?.time ?? 0) / 1000;
    const socket = this.socket;
    const head = this.store.get(this.roots.find(({ kind }) => kind === "map")?.root.dataset["topic"] ?? "");
    if (head !== undefined) this.timeline?.advance(head.op, head.seq);
    const state: Shown = this.player !== null || this.past !== null ? "recording" : socket.connection !== "live" ? socket.connection : this.paused ? "paused" : "live";
    this.chip?.draw({
      state, ageSeconds: Math.max(0, Math.round((Date.now() - socket.heardAt) / 1000)),
      moment: this.timeline?.viewing ?? `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`,
    });
    for (const { root, player } of this.roots) if (player === null) tellConnection(root, socket.notice);
  }

  private pause(): void {
    this.paused = !this.paused;
    // Whoever goes on catches up from the last number seen, exactly as after a break.
    for (const topic of this.topics) if (this.paused) this.socket.unwatch(topic); else this.socket.watch(topic);
    this.status();
  }

  private refuse(topic: string, reason: string): void {
    for (const mounted of this.roots) {
      if (mounted.root.dataset["topic"] !== topic) continue;
      mounted.refused = true;
      this.say(mounted.root, reason);
    }
    this.status();
  }

  private runState(topic: string, state: string): void {
    for (const { root } of this.roots) if (root.dataset["topic"] === topic) root.dataset["run"] = state;
    for (const part of document.querySelectorAll<HTMLElement>("[data-part=run-state]")) if (part.dataset["topic"] === topic) part.textContent = say(state);
  }

  /** One sentence on top of a view that gets no more data. */
  private say(root: HTMLElement, sentence: string): void {
    if (root.querySelector(":scope > .notice[data-part=ended]")?.textContent === say(sentence)) return;
    root.querySelector(":scope > .notice[data-part=ended]")?.remove();
    root.prepend(el("div", { class: "notice notice-warning", role: "status", "data-part": "ended" }, el("p", {}, say(sentence))));
  }
}

// "Share" leads to the step that stands there now, not to the one that the page came with.
document.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest<HTMLAnchorElement>("a[data-share]") : null;
  const step = link?.closest<HTMLElement>("[data-step]")?.dataset["step"];
  if (link === null || step === undefined) return;
  const url = new URL(link.href);
  url.searchParams.set("step", step);
  link.href = url.href;
}, true);
for (const root of document.querySelectorAll<HTMLElement>("[data-view=walk]")) new WalkView(root);
for (const root of document.querySelectorAll<HTMLElement>("[data-view=replay]")) new ReplayView(root);
void new Page().start();
