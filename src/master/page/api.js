// The master's API: calls with the key, and the stream of events, which begins anew when it is lost.
const KEY = "nodepass-key";
/** Time before the stream is tried again, in ms: the least and the most. */
const MIN_PAUSE = 1000;
const MAX_PAUSE = 10000;
/** A stream that is silent for longer, in ms, is lost: the master says something every 15 s. */
const SILENCE = 40000;

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

/** Why changes are not on the disk, as the last answer told; empty if they are. */
export let unsaved = "";

function request(path, options) {
  const headers = { "X-API-Key": key.get() };
  return fetch(path, { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer" });
}

/** Asks; the answer's JSON, or null where it has none. */
export async function call(method, path, body) {
  const options = { method };
  if (body !== undefined) options.body = typeof body === "string" ? body : JSON.stringify(body);
  const answer = await request(path, options);
  const text = await answer.text();
  if (answer.ok) unsaved = answer.headers.get("X-NodePass-Unsaved") ?? "";
  let value = null;
  try { value = text ? JSON.parse(text) : null; } catch { /* not JSON: told as it is */ }
  if (!answer.ok) throw new Refused(answer.status, value?.error ?? `${answer.status} ${text.trim()}`);
  return value;
}

/**
 * Follows the events. `heard(event)`, `opened()`, `lost()` and, when the key is refused, `refused(error)`, which ends it.
 * The answer is a function that ends it.
 */
export function follow({ opened, heard, lost, refused }) {
  let ended = false, abort = null, timer = 0, pause = MIN_PAUSE, end = () => {};
  const run = async () => {
    while (!ended) {
      abort = new AbortController();
      let watch = 0;
      const touch = () => { clearTimeout(watch); watch = setTimeout(() => abort.abort(), SILENCE); };
      try {
        touch();
        const answer = await request("v1/events", { signal: abort.signal });
        if (answer.status === 401 || answer.status === 403) {
          if (!ended) refused(new Refused(answer.status, ""));
          return;
        }
        if (!answer.ok) throw new Refused(answer.status, "");
        pause = MIN_PAUSE;
        opened();
        await read(answer.body.getReader(), heard, touch);
      } catch { /* lost, as when it ends */ }
      clearTimeout(watch);
      if (ended) return;
      lost();
      await new Promise((go) => { end = go; timer = setTimeout(go, pause); });
      pause = Math.min(pause * 2, MAX_PAUSE);
    }
  };
  const hurry = () => end();
  addEventListener("online", hurry);
  run();
  return () => {
    ended = true;
    removeEventListener("online", hurry);
    clearTimeout(timer);
    abort?.abort();
  };
}

async function read(reader, heard, touch) {
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    touch();
    const parts = (rest + decoder.decode(value, { stream: true })).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
      if (data.length) heard(JSON.parse(data.join("\n")));
    }
  }
}
