import { expect, it } from "vitest";
import { answer, options, text } from "./webauthn";

const bytes = (...values: number[]): ArrayBuffer => Uint8Array.from(values).buffer;

it("decodes every byte string of the options and leaves the rest as it is", () => {
  const given = { challenge: "-_8", user: { id: "AQ", name: "ann" }, excludeCredentials: [{ id: "Ag", type: "public-key" }], timeout: 7 };
  const decoded = options(given) as { challenge: ArrayBuffer; user: { id: ArrayBuffer; name: string }; excludeCredentials: { id: ArrayBuffer }[]; timeout: number };
  expect([...new Uint8Array(decoded.challenge)]).toEqual([0xfb, 0xff]);
  expect([decoded.user.name, decoded.timeout, new Uint8Array(decoded.user.id)[0], new Uint8Array(decoded.excludeCredentials[0]!.id)[0]]).toEqual(["ann", 7, 1, 2]);
});

it("sends a key's answer as the server reads it, without parts that are not there", () => {
  const response = { clientDataJSON: bytes(0xfb, 0xff), signature: bytes(1), userHandle: null };
  const told = answer({ id: "Ag", rawId: bytes(2), type: "public-key", response } as unknown as PublicKeyCredential);
  expect(told).toEqual({ id: "Ag", rawId: "Ag", type: "public-key", response: { clientDataJSON: "-_8", signature: "AQ" }, clientExtensionResults: {} });
  expect(text(bytes(0xfb, 0xff))).toBe("-_8");
});
