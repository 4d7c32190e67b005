/** The timeline dock: one time cursor for every view of a run. Where it stands is an operation (for tenants a step). */

import { button, count, el, LongTable, Voice } from "./dom";
import { ask, cursorOf, follow, partOf } from "./predict_part";
import { fromSlider, momentLink, Moments, toSlider, type Mark, type Moment, type Reach } from "./moments";
import { opNumber, say, t } from "./words";

const POSITIONS = 1000;
const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 5, 10, 25];
const PLAY_EVERY = 200;
const WHAT: [string, string][] = [
  ["event", t("event of the log")], ["violation", t("violation")], ["denied", t("denied request")], ["switch", t("world switch")], ["miss", t("TLB miss")],
];

/** What the dock tells the page. `show(null)` is: back to live. */
export interface Timed { show(moment: Moment | null): void; compare(a: Moment | null, b: Moment | null): void }

export class Timeline {
  private reach: Reach = { oldest: 0, newest: 0, unit: "op", marks: [] };
  /** null: live. */
  private at: number | null = null;
  private cursors: { a: number | null; b: number | null } = { a: null, b: null };
  private playing = false;
  private readonly moments: Moments;
  /** Done when it is known how far the run can be looked at; nothing is gone to before. */
  private readonly started: Promise<void>;
  private readonly voice = new Voice();
  private readonly says = el("p", { class: "timeline-says" });
  private readonly slider = el("input", { type: "range", min: "0", max: String(POSITIONS), "aria-label": t("Moment of the run") });
  private readonly ticks = el("div", { class: "timeline-ticks", "aria-hidden": "true" });
  private readonly goTo = el("input", { type: "number", min: "0", inputmode: "numeric", required: "", "aria-label": t("Go to operation") });
  private readonly play: HTMLButtonElement;
  private readonly live: HTMLButtonElement;
  private readonly speed = el("select", { "aria-label": t("Speed") }, ...SPEEDS.map((each) => el("option", { value: String(each), ...(each === 1 ? { selected: "" } : {}) }, `${each}x`)));
  private readonly what = el("select", { "aria-label": t("Run to") }, ...WHAT.map(([value, words]) => el("option", { value }, words)));
  private readonly place = el("output", { class: "timeline-place mono" });
  private readonly marks = new LongTable(t("Marks and events"), [t("At"), t("What"), ""], [0]);
  private readonly marking = el("input", { type: "text", maxlength: "120", required: "", placeholder: t("what is to be seen here"), "aria-label": t("Name of the mark") });
  private readonly ab = el("span", { class: "timeline-ab mono" });
  private readonly otherRun = el("input", { type: "number", min: "1", required: "", "aria-label": t("Number of the other run") });
  private readonly otherAt = el("input", { type: "number", min: "0", required: "", "aria-label": t("Moment of the other run") });
  /** A question stands before each step forward; what the step does is not fetched before its answer. */
  private predicting = false;
  private readonly predict: HTMLButtonElement;
  private readonly asking = el("div", { class: "predict-ask", hidden: "" });
  private readonly frozen = el("a", { class: "button button-quiet", href: "/shared/new/" }, t("Share this moment"));
  private readonly link = el("input", { type: "text", readonly: "", "aria-label": t("Link to this moment") });

  constructor(private readonly root: HTMLElement, private readonly page: Timed) {
    this.moments = new Moments(root.dataset["moments"] ?? "");
    this.play = button(t("Play"), () => this.toggle());
    this.live = button(t("Back to live"), () => this.goLive());
    this.live.classList.add("button-primary");
    this.predict = button(t("Predict each step"), () => this.setPredicting(!this.predicting));
    this.predict.setAttribute("aria-pressed", "false");
    follow(this.asking, (url) => {
      const at = cursorOf(url);
      this.asking.dataset["at"] = String(at ?? "");
      if (at !== null) void this.go(at);
    });
    this.link.hidden = true;
    this.slider.addEventListener("input", () => void this.go(fromSlider(this.reach, Number(this.slider.value), POSITIONS)));
    this.build();
    document.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("click", (event) => {
      const link = event.target instanceof Element ? event.target.closest<HTMLElement>("a[data-moment]") : null;
      if (link === null || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      void this.go(Number(link.dataset["moment"]));
    });
    this.started = this.start();
  }

  /** The run went on; the cursor of the past stays where it is. */
  advance(op: number, step: number): void {
    const newest = this.operator ? op : step;
    if (newest <= this.reach.newest) return;
    this.reach.newest = newest;
    this.draw();
  }

  get viewing(): string | null {
    return this.at === null ? null : `${this.reach.unit} ${count(this.at)}`;
  }

  private get operator(): boolean {
    return this.reach.unit === "op";
  }

  private build(): void {
    const go = el("form", { class: "inline" }, this.goTo, el("button", { class: "button button-quiet" }, t("Go")));
    go.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.go(Number(this.goTo.value));
    });
    const mark = el("form", { class: "actions" }, this.marking, el("button", { class: "button" }, t("Mark this moment")));
    mark.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.mark();
    });
    const share = el("div", { class: "actions" }, this.frozen, button(t("Copy a link to this moment"), () => void this.share()), this.link);
    const other = el("form", { class: "actions" }, el("span", {}, t("Compare run")), this.otherRun, el("span", {}, t("at")), this.otherAt, el("button", { class: "button button-quiet" }, t("with this moment")));
    other.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.compareRun(Number(this.otherRun.value), Number(this.otherAt.value));
    });
    const runTo = el("span", { class: "timeline-find actions" }, this.what, button(t("Last"), () => void this.find("last")), button(t("Next"), () => void this.find("next")));
    const bar = el("div", { class: "timeline-bar" },
      this.play, button(t("Step back"), () => void this.step(-1), "step-back"), button(t("Step forward"), () => void this.step(1), "step-forward"),
      this.speed, runTo, this.place, go, this.predict, this.live);
    const more = el("details", { class: "timeline-more" }, el("summary", {}, t("Marks, A and B, link")),
      el("div", { class: "timeline-sheet" }, mark,
        el("div", { class: "actions" }, button(t("Set A here"), () => this.set("a")), button(t("Set B here"), () => this.set("b")), this.ab,
          button(t("Compare A with B"), () => void this.compare()), button(t("End the comparison"), () => this.endComparison())),
        other, share, this.marks.element));
    this.root.replaceChildren(el("h2", { class: "visually-hidden" }, t("Timeline")),
      el("div", { class: "timeline-track" }, this.slider, this.ticks), bar, this.says, this.asking, more, this.voice.element);
  }

  private async start(): Promise<void> {
    await this.guarded(async () => {
      await this.reload();
      for (const each of this.root.querySelectorAll<HTMLElement>(".timeline-find")) each.hidden = !this.operator;
      if (!this.operator) this.goTo.setAttribute("aria-label", t("Go to step"));
      const asked = new URL(location.href).searchParams;
      const engine = asked.get("engine");
      if (engine !== null && engine !== this.root.dataset["engine"]) this.tell(t("The link was made with engine {engine}; this run was played by engine {own}.", { engine, own: this.root.dataset["engine"] ?? "?" }));
      for (const name of ["a", "b"] as const) if (asked.get(name) !== null) this.cursors[name] = Number(asked.get(name));
      const at = asked.get(this.reach.unit);
      if (at !== null && /^\d{1,16}$/.test(at)) await this.go(Number(at));
      this.draw();
    });
  }

  private async reload(): Promise<void> {
    this.reach = await this.moments.reach();
    this.drawMarks();
  }

  /** To this moment of the past; beyond the newest, to live. */
  private async go(at: number): Promise<void> {
    await this.guarded(async () => {
      const moment = await this.moments.at(this.reach.unit, Math.max(0, at));
      if (moment === null) return;
      this.at = moment.at;
      this.reach.oldest = moment.oldest;
      this.reach.newest = Math.max(moment.newest, this.reach.newest);
      this.page.show(moment);
      this.tell(say(moment.says) || t("The run after its step {at}.", { at: opNumber(moment.at) }));
      this.address();
      this.draw();
    });
  }

  private async step(by: 1 | -1): Promise<void> {
    await this.started;
    this.stop();
    const from = this.at ?? this.reach.newest;
    if (by > 0 && from >= this.reach.newest) return this.tell(t("This is the newest moment."));
    if (by > 0 && this.predicting) return this.askFirst(from);
    await this.go(from + by);
  }

  private setPredicting(on: boolean): void {
    this.predicting = on;
    this.stop();
    this.predict.setAttribute("aria-pressed", String(on));
    this.asking.hidden = true;
    this.asking.replaceChildren();
    delete this.asking.dataset["at"];
    this.tell(on ? t("Step forward now asks first.") : t("Steps are shown at once again."));
  }

  /** The question about the step after this moment; the step itself comes with the answer. */
  private async askFirst(from: number): Promise<void> {
    await this.guarded(async () => {
      if (this.asking.dataset["at"] !== String(from)) {
        const text = await ask(`/learn/predict/run/${this.root.dataset["run"] ?? ""}/?at=${from}`);
        const part = text === null ? null : partOf(text);
        if (part === null) return this.tell(t("There is no question about this moment."));
        this.asking.replaceChildren(part);
        this.asking.dataset["at"] = String(from);
      }
      this.asking.hidden = false;
      const question = this.asking.querySelector<HTMLElement>("[data-predict-form] input, [data-predict-form] button");
      question?.focus();
      question?.scrollIntoView({ block: "nearest" });
    });
  }

  private async find(direction: "next" | "last"): Promise<void> {
    await this.started;
    this.stop();
    const words = WHAT.find(([value]) => value === this.what.value)?.[1] ?? "";
    this.tell(direction === "next" ? t("Looking for the next {words}.", { words }) : t("Looking for the last {words}.", { words }));
    await this.guarded(async () => {
      const found = await this.moments.find(this.what.value, this.at ?? this.reach.newest, direction);
      if (found === null) return this.tell(direction === "next" ? t("No {words} was found after this moment in what is kept.", { words }) : t("No {words} was found before this moment in what is kept.", { words }));
      await this.go(found);
    });
  }

  private toggle(): void {
    if (this.playing) return this.stop();
    if (this.predicting) return void this.step(1);
    if (this.at === null) return this.tell(t("This is live. Step back or move the slider first, then play from there."));
    this.playing = true;
    void this.playOn();
    this.draw();
  }

  private async playOn(): Promise<void> {
    const perSecond = Number(this.root.dataset[this.operator ? "rate" : "steps"] ?? 1);
    let before = performance.now();
    while (this.playing && this.at !== null) {
      await new Promise((later) => setTimeout(later, PLAY_EVERY));
      const now = performance.now();
      const by = Math.max(1, Math.round((perSecond * Number(this.speed.value) * (now - before)) / 1000));
      before = now;
      if (!this.playing || this.at === null) return;
      if (this.at >= this.reach.newest) return this.stop();
      await this.go(Math.min(this.at + by, this.reach.newest));
    }
  }

  private stop(): void {
    this.playing = false;
    this.draw();
  }

  private goLive(): void {
    this.stop();
    this.at = null;
    this.page.show(null);
    this.tell(t("Live again."));
    this.address();
    this.draw();
    this.slider.focus({ preventScroll: true });
  }

  private set(name: "a" | "b"): void {
    this.cursors[name] = this.at ?? this.reach.newest;
    this.tell(t("{cursor} is {moment}.", { cursor: name.toUpperCase(), moment: this.moment(this.cursors[name] ?? 0) }));
    this.address();
    this.draw();
  }

  private async compare(): Promise<void> {
    const { a, b } = this.cursors;
    if (a === null || b === null) return this.tell(t("Set A and B first: go to a moment and set it."));
    await this.guarded(async () => {
      const first = await this.moments.at(this.reach.unit, a);
      const second = await this.moments.at(this.reach.unit, b);
      if (first === null || second === null) return;
      this.page.compare(first, second);
      this.tell(t("The map compares {a} with {b}.", { a: this.moment(a), b: opNumber(b) }));
    });
  }

  private endComparison(): void {
    this.page.compare(null, null);
    this.tell(t("The comparison is over."));
  }

  private async compareRun(run: number, at: number): Promise<void> {
    await this.guarded(async () => {
      const first = await new Moments(`/runs/${run}/`).at(this.reach.unit, at);
      const second = await this.moments.at(this.reach.unit, this.at ?? this.reach.newest);
      if (first === null || second === null) return;
      this.page.compare(first, second);
      this.tell(t("The map compares run {run} at {at} with this run at {own}.", { run, at: this.moment(at), own: opNumber(second.at) }));
    });
  }

  private async mark(): Promise<void> {
    await this.guarded(async () => {
      await this.moments.mark(this.at ?? this.reach.newest, this.marking.value, this.token());
      this.tell(t("Marked: {name}.", { name: this.marking.value }));
      this.marking.value = "";
      await this.reload();
      this.draw();
    });
  }

  private token(): string {
    return document.querySelector<HTMLInputElement>("input[name=csrfmiddlewaretoken]")?.value ?? "";
  }

  private async share(): Promise<void> {
    this.link.hidden = false;
    this.link.value = this.here();
    this.link.select();
    try {
      await navigator.clipboard.writeText(this.link.value);
      this.tell(t("The link is copied. It opens this moment for whoever may see this run."));
    } catch {
      this.tell(t("Copy the link that is selected beside the button."));
    }
  }

  private here(): string {
    const { run, engine, seed } = this.root.dataset;
    const view = document.activeElement?.closest<HTMLElement>("[data-view]")?.dataset["view"] ?? "";
    const pages = document.querySelector<HTMLElement>("[data-view=ownership-map]")?.dataset["selected"];
    return momentLink(location.href, { unit: this.reach.unit, at: this.at ?? this.reach.newest }, { run, engine, seed, pages, ...this.cursors }, view);
  }

  /** A reload opens the same moment. */
  private address(): void {
    const url = new URL(location.href);
    const named = { [this.reach.unit]: this.at, run: this.at === null ? null : this.root.dataset["run"], ...this.cursors };
    for (const [name, value] of Object.entries(named)) {
      if (value === null || value === undefined) url.searchParams.delete(name);
      else url.searchParams.set(name, String(value));
    }
    history.replaceState(null, "", url);
  }

  private key(event: KeyboardEvent): void {
    const typing = event.target instanceof HTMLElement && event.target.closest("input:not([type=range]), textarea, select") !== null;
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === ",") void this.step(-1);
    else if (event.key === ".") void this.step(1);
    else return;
    event.preventDefault();
  }

  /** `op 48,112`, for tenants `step 12`. */
  private moment(at: number): string {
    return this.operator ? t("op {op}", { op: opNumber(at) }) : t("step {at}", { at: opNumber(at) });
  }

  /** Whatever fails is told in the dock and changes nothing. */
  private async guarded(work: () => Promise<void>): Promise<void> {
    this.root.setAttribute("aria-busy", "true");
    try {
      await work();
    } catch (error) {
      this.playing = false;
      this.tell(say(error instanceof Error ? error.message : String(error)));
    } finally {
      this.root.setAttribute("aria-busy", "false");
    }
  }

  private tell(words: string): void {
    this.says.textContent = words;
    this.voice.say(words);
  }

  private draw(): void {
    const { oldest, newest } = this.reach;
    const at = this.at ?? newest;
    if (document.activeElement !== this.slider || this.at === null) this.slider.value = String(toSlider(this.reach, at, POSITIONS));
    this.slider.setAttribute("aria-valuetext", this.at === null ? t("live") : this.moment(at));
    this.goTo.min = String(oldest);
    this.goTo.max = String(newest);
    if (document.activeElement !== this.goTo) this.goTo.value = String(at);
    this.place.textContent = `${this.at === null ? `${t("live")}, ` : ""}${t("{moment} of {newest}", { moment: this.moment(at), newest: opNumber(newest) })}`;
    this.live.hidden = this.at === null;
    this.play.textContent = this.playing ? t("Pause") : t("Play");
    this.play.setAttribute("aria-label", this.playing ? t("Pause") : t("Play"));
    const { a, b } = this.cursors;
    this.ab.textContent = [a !== null && `A ${opNumber(a)}`, b !== null && `B ${opNumber(b)}`].filter(Boolean).join("  ");
    const asked = new URLSearchParams({ kind: "moment", run: this.root.dataset["run"] ?? "", [this.reach.unit]: String(at) });
    this.frozen.href = `/shared/new/?${asked}`;
    this.root.dataset["at"] = this.at === null ? "live" : String(this.at);
    this.drawTicks();
  }

  private drawTicks(): void {
    const { oldest, newest } = this.reach;
    const shown = [...this.reach.marks.map(({ at, kind }) => ({ at, kind })), ...(["a", "b"] as const).flatMap((kind) => (this.cursors[kind] === null ? [] : [{ at: this.cursors[kind] as number, kind }]))];
    this.ticks.replaceChildren(...shown.filter(({ at }) => at >= oldest && at <= newest).map(({ at, kind }) => {
      const tick = el("i", { "data-kind": kind });
      tick.style.insetInlineStart = `${(100 * (at - oldest)) / Math.max(1, newest - oldest)}%`;
      return tick;
    }));
  }

  private drawMarks(): void {
    const newestFirst = [...this.reach.marks].sort((x, y) => y.at - x.at);
    this.marks.show(() => ({ total: newestFirst.length, row: (i) => this.markRow(newestFirst[i] as Mark) }));
  }

  private markRow(mark: Mark): (string | Node)[] {
    const at = button(count(mark.at), () => void this.go(mark.at));
    at.setAttribute("aria-label", t("Go to {moment}", { moment: this.moment(mark.at) }));
    const { id } = mark;
    const gone = id === null ? "" : button(t("Delete"), () => void this.guarded(async () => {
      await this.moments.unmark(id, this.token());
      await this.reload();
      this.draw();
    }));
    return [at, mark.kind === "mark" ? `Mark: ${mark.text}` : mark.text, gone];
  }
}
