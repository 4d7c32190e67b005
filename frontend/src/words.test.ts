import { afterEach, describe, expect, it, vi } from "vitest";

/** The module as it is on a page of this language with this catalogue. */
async function on(language: string, words?: Record<string, string | string[]>): Promise<typeof import("./words")> {
  vi.resetModules();
  vi.stubGlobal("document", { documentElement: { lang: language } });
  vi.stubGlobal("vpmsWords", words);
  return import("./words");
}

const GERMAN = {
  "Page {n}": "Seite {n}", "{n} page": ["{n} Kachel", "{n} Kacheln"],
  "%(vm)s gives %(n)s back (%(why)s)": "%(n)s gibt %(vm)s zurück (%(why)s)", "by its owner": "durch den Besitzer",
};

describe("words", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("are English without a catalogue, with their places filled and the right number", async () => {
    const { t, tn, say, opNumber } = await on("en");
    expect([t("Page {n}", { n: "0x1f" }), tn("{n} page", "{n} pages", 1), tn("{n} page", "{n} pages", 1234)]).toEqual(["Page 0x1f", "1 page", "1,234 pages"]);
    expect([say("a-db gives 3 back (by its owner)"), opNumber(48112)]).toEqual(["a-db gives 3 back (by its owner)", "48,112"]);
  });

  it("are those of the catalogue, numbers as the language writes them, but never hex and operations", async () => {
    const { t, tn, opNumber, decimal } = await on("de", GERMAN);
    expect([t("Page {n}", { n: "0x1f" }), t("Unknown {n}", { n: 2 })]).toEqual(["Seite 0x1f", "Unknown 2"]);
    expect([tn("{n} page", "{n} pages", 1), tn("{n} page", "{n} pages", 1234)]).toEqual(["1 Kachel", "1.234 Kacheln"]);
    expect([opNumber(48112), decimal(61.25, 1)]).toEqual(["48112", "61,3"]);
  });

  it("that the server put together are said by their template, part by part", async () => {
    const { say } = await on("de", GERMAN);
    expect(say("a-db gives 3 back (by its owner)")).toBe("3 gibt a-db zurück (durch den Besitzer)");
    expect(say("by its owner: a-db")).toBe("durch den Besitzer: a-db");
    expect(say("nothing known")).toBe("nothing known");
  });
});
