// @ts-check
// One stream of changes: opened again when it breaks, from where it broke, and closed while nobody looks.

import { ApiError, ask, onKey, withQuery } from "./api.js";

/** @typedef {import("./types.d.ts").Line} Line */
/** @typedef {import("./types.d.ts").Counts} Counts */

const SILENCE_MS = 15_000; // the server says something every five seconds
const HIDDEN_MS = 60_000;
const RETRY_MS = [300, 1000, 2000, 5000];

/**
 * What is known of the fleet, and how well it is known.
 * @typedef {object} Known
 * @property {Map<number, Line>} lines
 * @property {Counts | null} counts null until the first picture
 * @property {string | null} worst
 * @property {number} behindS
 * @property {number} asOf server's time of the picture (ms)
 * @property {number} heardAt this machine's time when something was heard last (ms)
 * @property {string} trouble why the picture is old; "" while it is not
 * @property {string} lastId of the last event that can be resumed from
 * @property {number} version grows with each change
 * @property {number} arranged grows where systems come, go, or change their state, name or tags
 */

/** @returns {Known} */
export const nothing = () => ({ lines: new Map(), counts: null, worst: null, behindS: 0, asOf: 0, heardAt: 0, trouble: "", lastId: "", version: 0, arranged: 0 });

/**
 * Keep `known` up to date until the function that is given back is called.
 * @param {Record<string, string>} query @param {Known} known @param {() => void} listener
 */
export function follow(query, known, listener) {
  let failures = 0;
  let ended = false;
  let asleep = false;
  let abort = new AbortController();
  /** @type {Record<"retry" | "silence" | "hiding", ReturnType<typeof setTimeout> | undefined>} */
  const timers = { retry: undefined, silence: undefined, hiding: undefined };

  const told = () => {
    known.version += 1;
    listener();
  };

  /** @param {string} why @param {number} [inMs] */
  function broken(why, inMs = 0) {
    abort.abort();
    clearTimeout(timers.silence);
    if (ended || asleep) return;
    // The first break may be a restart or a proxy's doing: it is trouble when coming back at once fails as well.
    if (failures > 0 || known.counts === null) {
      known.trouble = why;
      told();
    }
    const pause = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
    failures += 1;
    timers.retry = setTimeout(open, Math.max(inMs, pause * (0.75 + Math.random() / 2)));
  }

  async function open() {
    clearTimeout(timers.retry);
    abort.abort();
    const mine = (abort = new AbortController());
    const listen = () => {
      clearTimeout(timers.silence);
      timers.silence = setTimeout(() => mine === abort && broken("LSO has gone silent"), SILENCE_MS);
    };
    listen();
    try {
      const headers = known.lastId ? { "Last-Event-ID": known.lastId } : undefined;
      const answer = await ask(withQuery("/stream", query), { accept: "text/event-stream", headers, signal: mine.signal });
      for await (const event of events(/** @type {ReadableStream<Uint8Array>} */ (answer.body))) {
        if (mine !== abort) return;
        listen();
        take(event);
      }
      if (mine === abort) broken("LSO ended the stream");
    } catch (error) {
      if (mine !== abort || mine.signal.aborted) return;
      if (error instanceof ApiError) {
        if (error.status === 401 || error.status === 403) return void clearTimeout(timers.silence); // goes on with another key
        broken(error.message, error.retryMs);
      } else broken("LSO cannot be reached");
    }
  }

  /** @param {{kind: string, id: string, data: any}} event */
  function take({ kind, id, data }) {
    known.heardAt = Date.now();
    if (kind === "unavailable") {
      known.trouble = data.detail;
      return told();
    }
    failures = 0;
    known.trouble = "";
    known.asOf = Date.parse(data.as_of);
    known.behindS = data.behind_s;
    if (id) known.lastId = id;
    if (kind === "snapshot" || kind === "change") {
      if (kind === "snapshot") known.lines.clear();
      if (data.gone.length || data.items.some((/** @type {Line} */ line) => moves(known.lines.get(line.system_id), line))) known.arranged += 1;
      for (const line of data.items) known.lines.set(line.system_id, line);
      for (const gone of data.gone) known.lines.delete(gone);
      known.counts = data.counts;
      known.worst = data.worst;
    }
    told();
  }

  function visibility() {
    clearTimeout(timers.hiding);
    if (document.hidden) {
      timers.hiding = setTimeout(() => {
        asleep = true;
        abort.abort();
        clearTimeout(timers.silence);
        clearTimeout(timers.retry);
      }, HIDDEN_MS);
    } else if (asleep) {
      asleep = false;
      open();
    }
  }

  document.addEventListener("visibilitychange", visibility);
  const forget = onKey(() => void open());
  open();
  return () => {
    ended = true;
    abort.abort();
    Object.values(timers).forEach(clearTimeout);
    document.removeEventListener("visibilitychange", visibility);
    forget();
  };
}

/** Whether a line stands elsewhere now. @param {Line | undefined} before @param {Line} line */
const moves = (before, line) => !before || before.health !== line.health || before.name !== line.name || before.tags.join() !== line.tags.join();

/** Events of a stream as they come. @param {ReadableStream<Uint8Array>} body */
async function* events(body) {
  const decoder = /** @type {ReadableWritablePair<string, Uint8Array>} */ (/** @type {unknown} */ (new TextDecoderStream()));
  const reader = body.pipeThrough(decoder).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const event = parse(text.slice(0, end));
        text = text.slice(end + 2);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** @param {string} block */
function parse(block) {
  let kind = "", id = "", data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) kind = line.slice(7);
    else if (line.startsWith("id: ")) id = line.slice(4);
    else if (line.startsWith("data: ")) data = line.slice(6);
  }
  return kind ? { kind, id, data: JSON.parse(data) } : null;
}
