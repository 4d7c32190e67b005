/** Server-rendered parts that follow a topic: when it moves, the page's own HTML is fetched and the part's content replaced. */

import { el } from "./dom";
import type { LiveSocket } from "./socket";
import type { Store } from "./store";
import { t } from "./words";

type Control = HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement;

/** Whether someone has begun to fill something in here: that is never pulled away. */
function begun(part: HTMLElement): boolean {
  return [...part.querySelectorAll<Control>("input:not([type=hidden]), textarea, select")].some((control) => {
    if (control === document.activeElement) return true;
    if (control instanceof HTMLSelectElement) {
      const offered = [...control.options].findIndex((option) => option.defaultSelected);
      return control.selectedIndex !== Math.max(offered, 0);  // where none is marked the first one stands
    }
    if (control instanceof HTMLInputElement && (control.type === "checkbox" || control.type === "radio")) return control.checked !== control.defaultChecked;
    return control.value !== control.defaultValue;
  });
}

/** Follows; what comes back fetches the part anew although the topic has not moved: time passes without a message. */
export function follow(part: HTMLElement, store: Store, socket: LiveSocket): () => void {
  const topic = part.dataset["refresh"];
  if (topic === undefined || part.id === "") return () => undefined;
  let busy = false;

  const renew = async (force = false): Promise<void> => {
    const seq = store.seq(topic);
    if (busy || seq === null || String(seq) === part.dataset["seq"]) return;
    if (!force && begun(part)) return offer();
    busy = true;
    while (part.querySelector(":popover-open") !== null) await new Promise((resolve) => setTimeout(resolve, 500));  // a tip is being read
    try {
      const answer = await fetch(part.dataset["from"] ?? location.href, { headers: { accept: "text/html" } });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(part.id);
      if (fresh !== null) {
        const reachable = (): HTMLElement[] => [...part.querySelectorAll<HTMLElement>("a, button, summary")];
        // A newcomer on the page needs the whole page's script: the first VM of a host brings its map.
        if (fresh.querySelector("[data-view]") !== null && part.querySelector("[data-view]") === null) return location.reload();
        const details = (): HTMLDetailsElement[] => [...part.querySelectorAll("details")];
        const opened = new Set(details().filter((each) => each.open).map((each) => each.querySelector("summary")?.textContent));
        const focused = reachable().findIndex((each) => each === document.activeElement);
        part.replaceChildren(...fresh.childNodes);
        for (const each of details()) if (opened.has(each.querySelector("summary")?.textContent)) each.open = true;
        reachable()[focused]?.focus({ preventScroll: true });
      }
      part.dataset["seq"] = String(seq);
    } catch {
      // Offline: the chip says so, and the next message tries again.
    }
    // At most one fetch a second, however fast the topic moves; the newest state always comes.
    setTimeout(() => {
      busy = false;
      void renew();
    }, 1000);
  };

  const offer = (): void => {
    if (part.querySelector("[data-part=changed]") !== null) return;
    const show = el("button", { type: "button", class: "button button-quiet" }, t("Show the new state"));
    show.addEventListener("click", () => void renew(true));
    part.prepend(el("div", { class: "notice notice-info", role: "status", "data-part": "changed" },
      el("p", {}, `${t("This has changed meanwhile. What you have begun to fill in is kept until you look.")} `), el("div", { class: "actions" }, show)));
  };

  // The page says with data-seq which state it shows: what moved between its making and this socket is noticed.
  const stop = store.subscribe(topic, () => {
    if (part.isConnected) void renew();
    else stop();
  });
  socket.watch(topic);
  return () => {
    part.dataset["seq"] = "";
    void renew();
  };
}
