// @ts-check
// Small parts that every view is made of.

import { html } from "htm/preact";
import { useEffect, useLayoutEffect, useReducer, useRef, useState } from "preact/hooks";
import { get, key, keyRefused, onKey, setKey } from "./api.js";
import { local, span, utc } from "./format.js";
import { follow, nothing } from "./live.js";

/** @typedef {import("./types.d.ts").Health} Health */

/** Shapes differ as much as colours do: for eyes that see no red, and for print. @type {Record<string, any>} */
const SHAPES = {
  UNHEALTHY: html`<path d="M4.7 1h6.6L15 4.7v6.6L11.3 15H4.7L1 11.3V4.7z" /><path class="cut" d="M5.5 5.5l5 5m0-5l-5 5" />`,
  DEGRADED: html`<path d="M8 1.2 15.4 14.4H.6z" /><path class="cut" d="M8 6v4m0 1.6v1" />`,
  UNKNOWN: html`<circle class="ring" cx="8" cy="8" r="6.4" /><path class="pen" d="M6 6.3a2 2 0 1 1 2.9 1.8c-.6.3-.9.7-.9 1.4m0 1.4v.9" />`,
  BEHIND: html`<circle class="ring dashed" cx="8" cy="8" r="6.4" /><path class="pen" d="M8 4.6V8l2.4 1.6" />`,
  OK: html`<circle cx="8" cy="8" r="7" /><path class="cut" d="M4.8 8.2l2.3 2.3 4.2-4.6" />`,
};

/** @param {{state: string, size?: number}} props */
export const Shape = ({ state, size = 16 }) =>
  html`<svg class="shape s-${state}" width=${size} height=${size} viewBox="0 0 16 16" aria-hidden="true">${SHAPES[state]}</svg>`;

/** What a line looks like: UNKNOWN for LSO's own reasons is told apart. @param {{health: string, observer_behind?: boolean}} line */
export const look = (line) => (line.observer_behind ? "BEHIND" : line.health);

/** @type {Record<string, string>} */
export const WORDS = { UNHEALTHY: "UNHEALTHY", DEGRADED: "DEGRADED", UNKNOWN: "UNKNOWN", OK: "OK", BEHIND: "OBSERVER BEHIND" };

/** @param {{state: string}} props */
export const Badge = ({ state }) => html`<span class="badge s-${state}"><${Shape} state=${state} size=${14} />${WORDS[state]}</span>`;

/** A moment in local time, in UTC on hover. @param {{ms: number, seconds?: boolean, day?: boolean, fraction?: boolean}} props */
export const Time = ({ ms, seconds, day, fraction }) =>
  html`<time datetime=${new Date(ms).toISOString()} title=${utc(ms)}>${local(ms, { seconds, day, ms: fraction })}</time>`;

/** Grey in the place of text to come. @param {{width?: string}} props */
export const Bone = ({ width = "6em" }) => html`<span class="bone" style=${{ width }} aria-hidden="true"></span>`;

/** A page that is not what was hoped for. @param {{title: string, children: any, state?: string}} props */
export const Notice = ({ title, children, state }) => html`
  <section class="notice">
    ${state && html`<${Shape} state=${state} size=${28} />`}
    <h2>${title}</h2>
    ${children}
  </section>
`;

/** Lines to paste. @param {{text: string, label: string}} props */
export function Paste({ text, label }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text).catch(() => undefined);
    setCopied(true);
    setTimeout(() => setCopied(false), 2000);
  };
  return html`
    <div class="paste">
      <pre tabindex="0" aria-label=${label}><code>${text}</code></pre>
      <button type="button" class="quiet" onClick=${copy}>${copied ? "Copied" : "Copy"}</button>
    </div>
  `;
}

/** Render again every so often. @param {number} ms */
export function useTick(ms) {
  const [, again] = useReducer((/** @type {number} */ n) => n + 1, 0);
  useEffect(() => {
    const timer = setInterval(() => again(undefined), ms);
    return () => clearInterval(timer);
  }, [ms]);
  return again;
}

/** The stream of changes, as long as the view is there. @param {Record<string, string>} query @param {import("./live.js").Known} [from] */
export function useLive(query, from) {
  const known = useRef(from ?? nothing());
  const [, again] = useReducer((/** @type {number} */ n) => n + 1, 0);
  useEffect(() => follow(query, known.current, () => again(undefined)), [JSON.stringify(query)]);
  return known.current;
}

/**
 * What a path answers. It is asked again when `path` or `turn` changes; what was there stays until the new is. What is not
 * there (404) is asked for once.
 * @param {string | null} path null asks nothing @param {unknown} [turn]
 * @returns {{data: any, error: import("./api.js").ApiError | null, loading: boolean, path: string | null}}
 */
export function useAnswer(path, turn) {
  const [answer, setAnswer] = useState(/** @type {any} */ ({ data: null, error: null, loading: true, path: null }));
  const [keys, again] = useReducer((/** @type {number} */ n) => n + 1, 0);
  useEffect(() => onKey(() => again(undefined)), []);
  const missing = useRef(/** @type {string | null} */ (null));
  useEffect(() => {
    const place = path?.split("?")[0] ?? null;
    if (path === null || missing.current === place) return undefined;
    const abort = new AbortController();
    setAnswer((/** @type {any} */ before) => ({ ...before, loading: true }));
    get(path, abort.signal).then(
      (data) => setAnswer({ data, error: null, loading: false, path }),
      (error) => {
        if (abort.signal.aborted) return;
        if (error.status === 404) missing.current = place;
        setAnswer((/** @type {any} */ before) => ({ ...before, error, loading: false }));
      },
    );
    return () => abort.abort();
  }, [path, turn, keys]);
  return answer;
}

/** Asks for a key where the server wants one. */
export function KeyGate() {
  const [, again] = useReducer((/** @type {number} */ n) => n + 1, 0);
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => onKey(() => again(undefined)), []);
  const wanted = keyRefused();
  useLayoutEffect(() => {
    if (wanted && !dialog.current?.open) dialog.current?.showModal();
    if (!wanted) dialog.current?.close();
  }, [wanted]);
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    const value = field.current?.value.trim();
    if (!value) return;
    if (field.current) field.current.value = "";
    setKey(value);
  };
  return html`
    <dialog ref=${dialog} class="key" aria-labelledby="key-title" onCancel=${(/** @type {Event} */ event) => event.preventDefault()}>
      <form onSubmit=${submit}>
        <h2 id="key-title">This server asks for a key</h2>
        <p>${wanted && key() ? "It does not take the one you gave. " : ""}Any key of the role read will do. It stays in this tab and is forgotten with it.</p>
        <label for="key-field">API key</label>
        <input id="key-field" ref=${field} type="password" autocomplete="off" spellcheck=${false} aria-invalid=${key() ? "true" : "false"} />
        <button type="submit">Use this key</button>
      </form>
    </dialog>
  `;
}

/**
 * How well the picture is known: live, or why not and how old it is.
 * @param {{known: import("./live.js").Known}} props
 */
export function Pulse({ known }) {
  useTick(1000);
  if (known.trouble) return html`<span class="pulse lost"><i></i>no connection</span>`;
  if (known.counts === null) return html`<span class="pulse"><i></i>connecting</span>`;
  return html`<span class="pulse live" title="How far LSO's own folding is behind what arrives"><i></i>live<small> ${known.behindS.toFixed(1)} s behind</small></span>`;
}

/** @param {{known: import("./live.js").Known}} props */
export function Trouble({ known }) {
  useTick(1000);
  if (!known.trouble) return null;
  const old = known.heardAt ? ` The picture below is ${span(Date.now() - known.heardAt)} old.` : "";
  return html`<p class="banner lost" role="alert"><b>${sentence(known.trouble)}</b>${old} Trying again.</p>`;
}

/** @param {string} text */
const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);
