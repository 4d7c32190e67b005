/** Asks a security key or passkey and sends its answer with the form. Loaded on the pages that ask for one, alone. */

type Json = Record<string, unknown>;

function bytes(text: string): ArrayBuffer {
  const raw = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(raw, (letter) => letter.charCodeAt(0)).buffer;
}

export function text(buffer: ArrayBuffer): string {
  return btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/** The server's options with every base64url string that the browser wants as bytes decoded. */
export function options(given: Json): Json {
  const decoded: Json = { ...given, challenge: bytes(given["challenge"] as string) };
  for (const list of ["excludeCredentials", "allowCredentials"]) {
    const known = given[list] as Json[] | undefined;
    if (known) decoded[list] = known.map((one) => ({ ...one, id: bytes(one["id"] as string) }));
  }
  const user = given["user"] as Json | undefined;
  if (user) decoded["user"] = { ...user, id: bytes(user["id"] as string) };
  return decoded;
}

export function answer(credential: PublicKeyCredential): Json {
  const response: Json = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    const part = (credential.response as unknown as Record<string, ArrayBuffer | null | undefined>)[name];
    if (part) response[name] = text(part);
  }
  return { id: credential.id, rawId: text(credential.rawId), type: credential.type, response, clientExtensionResults: {} };
}

async function ask(form: HTMLFormElement): Promise<void> {
  const asked = options((JSON.parse(form.dataset["options"] ?? "{}") as { publicKey: Json }).publicKey);
  const found = form.dataset["webauthn"] === "create"
    ? await navigator.credentials.create({ publicKey: asked as unknown as PublicKeyCredentialCreationOptions })
    : await navigator.credentials.get({ publicKey: asked as unknown as PublicKeyCredentialRequestOptions });
  if (found === null) throw new Error("no key answered");
  (form.elements.namedItem("credential") as HTMLInputElement).value = JSON.stringify(answer(found as PublicKeyCredential));
  form.submit();
}

if (typeof document !== "undefined") {
  for (const form of document.querySelectorAll<HTMLFormElement>("form[data-webauthn]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const told = form.querySelector<HTMLElement>("[data-part=fault]");
      if (told) told.textContent = "";
      ask(form).catch(() => { if (told) told.textContent = told.dataset["words"] ?? ""; });
    });
  }
}
