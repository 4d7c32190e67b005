/** The panel beside the questions: what the answers as they stand would lead to, computed by the server while someone answers. */

const WAIT = 500;  // ms without a further change

function watch(form: HTMLFormElement, panel: HTMLElement): void {
  const address = form.dataset["consequences"] ?? "";
  let timer = 0;
  let running: AbortController | null = null;

  const compute = async (): Promise<void> => {
    running?.abort();
    const mine = running = new AbortController();
    panel.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(address, { method: "POST", body: new FormData(form), headers: { "X-Part": "consequences" }, signal: mine.signal });
      if (!answer.ok && answer.status !== 422) return;  // what stood there still stands; the next change tries again
      panel.replaceChildren(...new DOMParser().parseFromString(await answer.text(), "text/html").body.childNodes);
    } catch {
      // Offline, or a later change has overtaken this one.
    } finally {
      if (mine === running) panel.removeAttribute("aria-busy");
    }
  };

  const later = (): void => {
    clearTimeout(timer);
    timer = window.setTimeout(() => void compute(), WAIT);
  };
  form.addEventListener("input", later);
  void compute();
}

const form = document.querySelector<HTMLFormElement>("form[data-consequences]");
const panel = document.querySelector<HTMLElement>("[data-part=consequences]");
if (form !== null && panel !== null) watch(form, panel);
