/** A student's page in a class, and the projector's: the stage comes by the socket, whole, and replaces what stands there. */

import { Chip } from "./chip";
import { tellConnection } from "./closed";
import { follow } from "./refresh";
import { LiveSocket } from "./socket";
import { Store } from "./store";
import { t } from "./words";

export interface Stage { html: string; frozen: boolean; over: boolean; question: number | null; spotlight: boolean }

const TOKEN = /(?:^|; )csrftoken=([^;]+)/;

class ClassPage {
  private readonly store = new Store();
  private readonly socket: LiveSocket;
  private readonly chip: Chip | null;
  private readonly topic: string;
  private readonly stage: HTMLElement;
  private paused = false;
  private shown: number;

  constructor(private readonly root: HTMLElement) {
    const address = new URL("/ws/", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.topic = root.dataset["class"] ?? "";
    this.stage = root.querySelector<HTMLElement>("#stage") as HTMLElement;
    this.shown = Number(root.dataset["seq"]);
    this.socket = new LiveSocket(address.href, this.store, () => this.status());
    const host = document.querySelector<HTMLElement>("[data-part=live-chip]");
    this.chip = host === null ? null : new Chip(host, () => this.pause(), () => this.socket.reconnectNow());
    root.addEventListener("submit", (event) => this.submit(event));
    this.following(this.follows);
  }

  start(): void {
    this.socket.watch(this.topic);
    this.store.subscribe(this.topic, () => {
      const state = this.store.get(this.topic);
      if (state?.type === "other") this.take(state.seq, state.data as Stage);
    });
    const asked = this.root.querySelector<HTMLElement>("#class-spotlight");
    if (asked !== null) follow(asked, this.store, this.socket);
    this.socket.connect();
    document.addEventListener("visibilitychange", () => this.socket.setHidden(document.hidden));
    addEventListener("online", () => this.socket.reconnectNow());
    setInterval(() => this.status(), 1000);
    this.status();
  }

  private get follows(): boolean {
    return this.root.dataset["following"] === "yes";
  }

  /** The newest stage, unless the student goes an own way; that the class is over or held still is told to all. */
  private take(seq: number, stage: Stage): void {
    if (seq <= this.shown && this.root.dataset["taken"] !== undefined) return;
    this.root.dataset["taken"] = String(seq);
    // What somebody no longer shows goes from every screen, also from that of who goes an own way.
    if (!stage.spotlight) this.stage.querySelector("[data-spotlight]")?.remove();
    if (!this.follows && !stage.over && !stage.frozen) return;
    this.shown = seq;
    const focused = document.activeElement instanceof HTMLElement && this.stage.contains(document.activeElement);
    const opened = [...this.stage.querySelectorAll("details")].map((each) => each.open);
    this.stage.innerHTML = stage.html;
    [...this.stage.querySelectorAll("details")].forEach((each, i) => { each.open = opened[i] ?? each.open; });
    if (this.root.dataset["looks"] !== undefined) for (const each of this.stage.querySelectorAll("fieldset")) each.disabled = true;
    this.mark();
    if (focused) this.stage.querySelector<HTMLElement>("button, a")?.focus({ preventScroll: true });
    this.root.dataset["seq"] = String(seq);
    this.root.dataset["paintedAt"] = String(Date.now());
  }

  /** What this person chose of the question that stands there. */
  private mark(): void {
    const question = this.stage.querySelector<HTMLElement>("#class-question");
    const [number, choice] = (this.root.dataset["chosen"] ?? "").split(":", 2);
    if (question === null || number !== question.dataset["number"]) return;
    for (const button of question.querySelectorAll<HTMLButtonElement>("[name=choice]")) if (button.value === choice) button.setAttribute("aria-pressed", "true");
    const said = question.querySelector("[data-part=answered]");
    if (said !== null) said.textContent = t("Your answer is in. The teacher shows what the class said.");
  }

  private submit(event: SubmitEvent): void {
    const form = event.target;
    if (!(form instanceof HTMLFormElement)) return;
    const given = new FormData(form, event.submitter);
    if (form.dataset["classAnswer"] !== undefined) {
      event.preventDefault();
      void this.answer(form, given);
    } else if (form.dataset["classSeat"] !== undefined && ["follow", "detach"].includes(String(given.get("act")))) {
      event.preventDefault();
      void this.follow(form, String(given.get("act")) === "follow", given);
    }
  }

  private async answer(form: HTMLFormElement, given: FormData): Promise<void> {
    const said = form.querySelector("[data-part=answered]");
    const answer = await this.post(form.action, given);
    const told = answer === null ? null : await answer.json() as { number?: number; choice?: string; message?: string };
    if (told?.number === undefined) {
      if (said !== null) said.textContent = told?.message ?? t("It did not arrive. Try again.");
      return;
    }
    this.root.dataset["chosen"] = `${told.number}:${told.choice ?? ""}`;
    for (const each of form.querySelectorAll("[aria-pressed]")) each.removeAttribute("aria-pressed");
    this.mark();
  }

  private async follow(form: HTMLFormElement, on: boolean, given: FormData): Promise<void> {
    const answer = await this.post(form.action, given);
    if (answer === null || !answer.ok) return;
    if (on) return location.reload();
    this.following(false);
  }

  private following(on: boolean): void {
    this.root.dataset["following"] = on ? "yes" : "no";
    const told = this.root.querySelector<HTMLElement>("[data-part=detached]");
    if (told !== null) told.hidden = on;
    for (const button of this.root.querySelectorAll<HTMLElement>("[data-when]")) button.hidden = button.dataset["when"] !== (on ? "yes" : "no");
  }

  private async post(address: string, given: FormData): Promise<Response | null> {
    const token = this.root.querySelector<HTMLInputElement>("[name=csrfmiddlewaretoken]")?.value ?? TOKEN.exec(document.cookie)?.[1] ?? "";
    try {
      return await fetch(address, { method: "POST", body: given, headers: { accept: "application/json", "X-CSRFToken": token } });
    } catch {
      return null;
    }
  }

  private pause(): void {
    this.paused = !this.paused;
    if (this.paused) this.socket.unwatch(this.topic);
    else this.socket.watch(this.topic);
    this.status();
  }

  private status(): void {
    const live = this.socket.connection;
    const state = live !== "live" ? live : this.paused ? "paused" : "live";
    this.root.dataset["state"] = state;
    this.chip?.draw({ state, ageSeconds: Math.max(0, Math.round((Date.now() - this.socket.heardAt) / 1000)), moment: "" });
    tellConnection(this.root, this.socket.notice);
  }
}

const root = document.querySelector<HTMLElement>("[data-class]");
if (root !== null) new ClassPage(root).start();
