/** The list of events, newest first: what was tried, what came of it, and for each refusal the check and its inputs. */

import { count, el, outcomeClass, Voice } from "./dom";
import type { LogState } from "./store";
import type { LogEvent } from "./wire";

export class AttackLog {
  private readonly list = el("ol", { class: "log", reversed: "" });
  private readonly empty = el("p", { class: "muted" }, "No events yet. Starts, refusals and attacks will stand here.");
  private readonly voice = new Voice();
  private newest = -1;
  private oldest = -1;

  constructor(root: HTMLElement) {
    root.append(this.empty, el("div", { class: "log-scroll", tabindex: "0", role: "region", "aria-label": "Events" }, this.list), this.voice.element);
  }

  draw(state: LogState): void {
    const { events } = state;
    const last = events.at(-1);
    this.empty.hidden = last !== undefined;
    const first = events[0]?.number ?? -1;
    // Rows are added at the top and fall off at the end, so an opened detail stays open; a rewind builds the list anew.
    const grown = this.newest >= 0 && (last?.number ?? -1) >= this.newest && first >= this.oldest;
    const fresh = grown ? events.filter((event) => event.number > this.newest) : events;
    if (!grown) this.list.replaceChildren();
    for (const event of fresh) this.list.prepend(row(event));
    while (this.list.childElementCount > events.length) this.list.lastElementChild?.remove();
    if (grown && last !== undefined && fresh.length > 0) this.voice.say(`${last.title} ${last.outcome}`);
    this.newest = last?.number ?? -1;
    this.oldest = first;
  }
}

function row(event: LogEvent): HTMLElement {
  const at = /T(\d\d:\d\d:\d\d)/.exec(event.at)?.[1] ?? event.at;
  const facts = [...(event.check === "" ? [] : [["check", event.check] as const]), ...Object.entries(event.detail)];
  const head = [
    el("time", { class: "log-at", datetime: event.at }, at),
    el("span", { class: "log-title" }, event.title || event.kind),
    el("span", { class: "log-meta muted" }, [event.vm, event.op === null ? "" : `op ${count(event.op)}`].filter((part) => part !== "").join(", ")),
    event.outcome === "" ? "" : el("span", { class: outcomeClass(event.outcome) || "chip" }, event.outcome),
  ];
  const item = el("li", { "data-number": String(event.number), "data-kind": event.kind });
  if (facts.length === 0) item.append(el("div", { class: "log-row" }, ...head));
  else {
    const list = el("dl", { class: "facts" }, ...facts.map(([name, value]) =>
      el("div", {}, el("dt", {}, name.replaceAll("_", " ")), el("dd", { class: "mono" }, typeof value === "string" ? value : JSON.stringify(value)))));
    item.append(el("details", {}, el("summary", { class: "log-row" }, ...head), list));
  }
  return item;
}
