import { describe, expect, it } from "vitest";

import { ask, cursorOf, send, sendable, type Get } from "./predict_part";

const PAGE = "<main><p>about</p><section data-predict id=predict><section id=told><h2>right</h2></section><h2>asked</h2></section></main>";
const answering = (text: string, ok = true): { get: Get; calls: [string, RequestInit | undefined][] } => {
  const calls: [string, RequestInit | undefined][] = [];
  const get: Get = (url, init) => {
    calls.push([url, init]);
    return Promise.resolve({ ok, url: `${url}#predict`, text: () => Promise.resolve(text) } as Response);
  };
  return { get, calls };
};

describe("predict, then see", () => {
  it("sends what was chosen or passed, and nothing else", () => {
    expect([sendable(null, false), sendable(null, true), sendable("pass", false)]).toEqual([false, true, true]);
  });

  it("asks the server for the part alone, by the form's own address", async () => {
    const asked = answering(PAGE);
    expect(await ask("/learn/predict/run/1/?at=5", asked.get)).toBe(PAGE);
    expect(asked.calls).toEqual([["/learn/predict/run/1/?at=5", { headers: { accept: "text/html", "X-Part": "predict" } }]]);
    const sent = answering(PAGE);
    const given = new FormData();
    given.set("choice", "ok");
    expect((await send("/answer/?seed=1", given, sent.get))?.url).toBe("/answer/?seed=1#predict");
    expect(sent.calls[0]?.[1]?.method).toBe("POST");
    expect((sent.calls[0]?.[1]?.body as FormData).get("choice")).toBe("ok");
  });

  it("knows to which moment of a run an answer leads", () => {
    expect([cursorOf("/learn/predict/run/1/?seed=3&at=42"), cursorOf("/learn/predict/walk/nested/?seed=3"), cursorOf("/x?at=-1")]).toEqual([42, null, null]);
  });

  it("leaves what the server refuses to the browser", async () => {
    expect(await ask("/x", answering(PAGE, false).get)).toBeNull();
    expect(await send("/x", new FormData(), answering("<p>refused</p>").get)).toBeNull();
  });
});
