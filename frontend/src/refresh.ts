/** Server-rendered parts that follow a topic: when it moves, the page's own HTML is fetched and the part's content replaced. */

import type { LiveSocket } from "./socket";
import type { Store } from "./store";

export function follow(part: HTMLElement, store: Store, socket: LiveSocket): void {
  const topic = part.dataset["refresh"];
  if (topic === undefined || part.id === "") return;
  let first = true;
  let busy = false;
  const renew = async (): Promise<void> => {
    const seq = store.seq(topic);
    if (busy || seq === null || String(seq) === part.dataset["seq"]) return;
    // A form that someone is filling in is never pulled away; it catches up when the focus leaves.
    if (part.querySelector(":is(input, textarea, select):focus") !== null) return;
    busy = true;
    try {
      const page = new DOMParser().parseFromString(await (await fetch(location.href, { headers: { accept: "text/html" } })).text(), "text/html");
      const fresh = page.getElementById(part.id);
      if (fresh !== null) part.replaceChildren(...fresh.childNodes);
      part.dataset["seq"] = String(seq);
    } catch {
      // Offline: the chip says so, and the next message tries again.
    } finally {
      busy = false;
    }
    if (store.seq(topic) !== seq) void renew();
  };
  part.addEventListener("focusout", () => setTimeout(() => void renew(), 0));
  store.subscribe(topic, () => {
    // The first state only says where the page stands, unless the page knows its number and it differs.
    if (first && (part.dataset["seq"] ?? "") === "") part.dataset["seq"] = String(store.seq(topic));
    first = false;
    void renew();
  });
  socket.watch(topic);
}
