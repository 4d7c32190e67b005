/** The list of events, newest first: what was tried, what came of it, and for each refusal the check and its inputs. */

import { el, outcomeClass, Voice } from "./dom";
import type { LogState } from "./store";
import { tableDrawing, takeAway, type Sheet } from "./take_away";
import type { LogEvent } from "./wire";
import { opNumber, say, t } from "./words";

export class AttackLog {
  private readonly list = el("ol", { class: "log", reversed: "" });
  private readonly empty = el("p", { class: "muted" }, t("No events yet. Starts, refusals and attacks will stand here."));
  private readonly voice = new Voice();
  private newest = -1;
  private oldest = -1;
  private events: readonly LogEvent[] = [];

  constructor(root: HTMLElement) {
    const sheet = (): Sheet => sheetOf(this.events);
    root.querySelector(".panel-header")?.append(takeAway({
      root, name: "events", title: t("Events"), sheet, json: () => this.events,
      picture: () => tableDrawing(sheet().heads, sheet().rows.map((cells) => cells.map((text) => ({ text })))),
    }));
    root.append(this.empty, el("div", { class: "log-scroll", tabindex: "0", role: "region", "aria-label": t("Events") }, this.list), this.voice.element);
  }

  draw(state: LogState): void {
    const { events } = state;
    this.events = events;
    const last = events.at(-1);
    this.empty.hidden = last !== undefined;
    const first = events[0]?.number ?? -1;
    // Rows are added at the top and fall off at the end, so an opened detail stays open; a rewind builds the list anew.
    const grown = this.newest >= 0 && (last?.number ?? -1) >= this.newest && first >= this.oldest;
    const fresh = grown ? events.filter((event) => event.number > this.newest) : events;
    if (!grown) this.list.replaceChildren();
    for (const event of fresh) this.list.prepend(row(event));
    while (this.list.childElementCount > events.length) this.list.lastElementChild?.remove();
    if (grown && last !== undefined && fresh.length > 0) this.voice.say(`${say(last.title)} ${say(last.outcome)}`);
    this.newest = last?.number ?? -1;
    this.oldest = first;
  }
}

/** A link that the timeline follows without a new page. */
const moment = (op: number): HTMLElement => el("a", { href: `?op=${op}`, "data-moment": String(op) }, t("op {op}", { op: opNumber(op) }));

/** Oldest first; the inputs of a check stand in one cell. */
export function sheetOf(events: readonly LogEvent[]): Sheet {
  const worded = (detail: Record<string, unknown>): string => Object.entries(detail).map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join("; ");
  return {
    heads: ["number", "operation", "at", "kind", "VM", "event", "outcome", "check", "detail"],
    rows: events.map((each) => [String(each.number), each.op === null ? "" : String(each.op), each.at, each.kind, each.vm, each.title, each.outcome, each.check, worded(each.detail)]),
  };
}

function row(event: LogEvent): HTMLElement {
  const at = /T(\d\d:\d\d:\d\d)/.exec(event.at)?.[1] ?? event.at;
  const facts = [...(event.check === "" ? [] : [["check", event.check] as const]), ...Object.entries(event.detail)];
  const head = [
    el("time", { class: "log-at", datetime: event.at }, at),
    el("span", { class: "log-title", "data-more": t("details") }, say(event.title || event.kind)),
    el("span", { class: "log-meta muted" }, event.vm, event.vm !== "" && event.op !== null ? ", " : "", event.op === null ? "" : facts.length === 0 ? moment(event.op) : t("op {op}", { op: opNumber(event.op) })),
    event.outcome === "" ? "" : el("span", { class: outcomeClass(event.outcome) || "chip" }, say(event.outcome)),
  ];
  const item = el("li", { "data-number": String(event.number), "data-kind": event.kind });
  if (facts.length === 0) item.append(el("div", { class: "log-row" }, ...head));
  else {
    // A summary is a control of its own, so the link stands inside.
    const there = event.op === null ? [] : [el("div", {}, el("dt", {}, t("moment")), el("dd", {}, moment(event.op)))];
    const list = el("dl", { class: "facts" }, ...there, ...facts.map(([name, value]) =>
      el("div", {}, el("dt", {}, say(name.replaceAll("_", " "))), el("dd", { class: "mono" }, typeof value === "string" ? say(value) : JSON.stringify(value)))));
    item.append(el("details", {}, el("summary", { class: "log-row" }, ...head), list));
  }
  return item;
}
