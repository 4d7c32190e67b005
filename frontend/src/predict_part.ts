/** Questions before each step: an answer is sent by its own form, and the part comes back as the server has it. Nothing is known here before. */

export type Get = (url: string, init?: RequestInit) => Promise<Response>;

const PART = "[data-predict]";

/** The part in a page or a part of one; null where there is none. */
export const partOf = (text: string): HTMLElement | null => new DOMParser().parseFromString(text, "text/html").querySelector<HTMLElement>(PART);

/** Whether a form can be sent as it stands: one passes, or has chosen. */
export const sendable = (pressed: string | null, chosen: boolean): boolean => pressed === "pass" || chosen;

/** The time cursor in the address of a part of a run; null where there is none. */
export function cursorOf(url: string): number | null {
  const at = new URL(url, "http://here/").searchParams.get("at");
  return at !== null && /^\d{1,16}$/.test(at) ? Number(at) : null;
}

/** What the server says: a part to show, or null where the browser itself must go there. */
const said = async (answer: Response): Promise<string | null> => {
  const text = answer.ok ? await answer.text() : "";
  return text.includes("data-predict") ? text : null;
};

/** Fetches the part for the first time, as on the page of a run. */
export async function ask(url: string, get: Get = (at, init) => fetch(at, init)): Promise<string | null> {
  return said(await get(url, { headers: { accept: "text/html", "X-Part": "predict" } }));
}

/** Sends the form: the part that tells what was right, and the address of what is shown now. */
export async function send(action: string, given: FormData, get: Get = (at, init) => fetch(at, init)): Promise<{ text: string; url: string } | null> {
  const answer = await get(action, { method: "POST", body: given, headers: { accept: "text/html", "X-Part": "predict" } });
  const text = await said(answer);
  return text === null ? null : { text, url: answer.url };
}

/** What is to be read next: the explanation, else the question. */
const target = (part: HTMLElement): HTMLElement | null => part.querySelector<HTMLElement>("#told") ?? part.querySelector<HTMLElement>("h2");

/** Answers in `root` go by script, one after the other; `then` is told of each that was taken, before the part is drawn. */
export function follow(root: HTMLElement, then: (url: string) => void = () => undefined): void {
  let busy = false;
  root.addEventListener("submit", (event) => {
    const form = event.target instanceof HTMLFormElement && event.target.dataset["predictForm"] !== undefined ? event.target : null;
    if (form === null) return;
    const pressed = event.submitter;
    if (!sendable(pressed?.getAttribute("name") ?? null, form.querySelector("input[name=choice]:checked") !== null)) return;
    event.preventDefault();
    if (busy) return;
    busy = true;
    void send(form.action, new FormData(form, pressed)).then((sent) => {
      const part = sent === null ? null : partOf(sent.text);
      if (sent === null || part === null) return form.submit();
      then(sent.url);
      form.closest(PART)?.replaceWith(part);
      const told = target(part);
      told?.setAttribute("tabindex", "-1");
      told?.focus({ preventScroll: true });
      told?.scrollIntoView({ block: "nearest" });
    }).catch(() => form.submit()).finally(() => { busy = false; });
  });
}
