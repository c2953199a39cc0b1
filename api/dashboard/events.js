// @ts-check
// What happened lately, event by event.

import { html } from "htm/preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { get, withQuery } from "./api.js";
import { duration } from "./format.js";
import { Bone, Shape, Time, useAnswer } from "./parts.js";
import { turn, turned } from "./route.js";

/** @typedef {import("./types.d.ts").SeenEvent} SeenEvent */

const PAGE = 25;
const FILTERS = { "e.status": "status", "e.stage": "stage", "e.type": "event_type", "e.run": "run_id" };

/** @param {{id: number, query: URLSearchParams, stages: string[], kinds: string[], turnOf: number}} props */
export function Events({ id, query, stages, kinds, turnOf }) {
  const wanted = Object.fromEntries(Object.entries(FILTERS).map(([name, field]) => [field, query.get(name) ?? ""]));
  const path = withQuery(`/systems/${id}/events`, { ...wanted, limit: PAGE });
  const [older, setOlder] = useState(/** @type {{items: SeenEvent[], next: string | null} | null} */ (null));
  const [failed, setFailed] = useState("");
  useEffect(() => setOlder(null), [path]);
  // Nothing moves under the eyes of who reads: new events come in when the pointer and the focus have left.
  const [held, setHeld] = useState(false);
  const last = useRef(turnOf);
  if (!held && !older) last.current = turnOf;
  const page = useAnswer(path, last.current);
  const next = older ? older.next : page.data?.next;
  const items = [...(page.data?.items ?? []), ...(older?.items ?? [])];
  const more = async () => {
    try {
      const found = await get(`${path}&cursor=${encodeURIComponent(String(next))}`);
      setOlder({ items: [...(older?.items ?? []), ...found.items], next: found.next });
      setFailed("");
    } catch (error) {
      setFailed(/** @type {Error} */ (error).message);
    }
  };
  // Set when the address changes, and not each time this is rendered, over what somebody is typing.
  const run = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => void (run.current && (run.current.value = wanted.run_id)), [wanted.run_id]);
  const narrowed = Object.values(wanted).some(Boolean);
  return html`
    <section class="sheet" aria-label="Recent events">
      <div class="ranges">
        <h2>Recent events</h2>
        <${Pick} label="status" name="e.status" value=${wanted.status} options=${["ok", "error"]} />
        <${Pick} label="stage" name="e.stage" value=${wanted.stage} options=${stages} />
        <${Pick} label="type" name="e.type" value=${wanted.event_type} options=${[...new Set([...kinds, "start", "heartbeat", "end", "log"])]} />
        <input ref=${run} type="search" placeholder="run" aria-label="Show only events of a run" onChange=${(/** @type {any} */ event) => turn({ "e.run": event.target.value.trim() })} />
        ${(held || older) && html`<small class="hint">held while you read</small>`}
        ${narrowed && html`<a class="quiet" href=${turned({ "e.status": "", "e.stage": "", "e.type": "", "e.run": "" })}>show all</a>`}
      </div>
      ${page.error && html`<p class="none" role="alert">Events cannot be shown: ${page.error.message}.</p>`}
      <ol class="events" onMouseEnter=${() => setHeld(true)} onMouseLeave=${() => setHeld(false)} onFocusIn=${() => setHeld(true)} onFocusOut=${() => setHeld(false)}>
        ${page.data ? items.map((event) => html`<${EventRow} key=${`${event.entry}.${event.index}`} event=${event} />`) : [0, 1, 2, 3].map((at) => html`<li key=${at}><${Bone} width="100%" /></li>`)}
      </ol>
      ${page.data && !items.length && html`<p class="none">${narrowed ? "None of the recent events is like that." : "No recent events. They stay readable for an hour, unless set otherwise (LSO_HOT_SECONDS)."}</p>`}
      ${failed && html`<p class="none" role="alert">${failed}</p>`}
      ${next && html`<button type="button" class="quiet" onClick=${more}>Show older ones</button>`}
    </section>
  `;
}

/** @param {{label: string, name: string, value: string, options: string[]}} props */
const Pick = ({ label, name, value, options }) => html`
  <select aria-label=${`Show only events of a ${label}`} value=${value} onChange=${(/** @type {any} */ event) => turn({ [name]: event.target.value })}>
    <option value="">any ${label}</option>
    ${(value && !options.includes(value) ? [value, ...options] : options).filter(Boolean).map((one) => html`<option key=${one} value=${one}>${one}</option>`)}
  </select>
`;

/** One event, with everything it holds behind it. @param {{event: SeenEvent}} props */
export function EventRow({ event }) {
  const payload = event.payload == null ? "" : JSON.stringify(event.payload);
  const bad = event.status === "error";
  return html`
    <li class=${bad ? "bad" : ""}>
      <details>
        <summary>
          <${Shape} state=${bad ? "UNHEALTHY" : "OK"} size=${12} /><span class="sr">${event.status}</span>
          <${Time} ms=${Date.parse(event.ts ?? event.at)} fraction=${true} />
          <b>${event.event_type}</b><span class="stage">${event.stage ?? ""}</span><span class="n">${duration(event.latency_ms)}</span><span class="id">${event.run_id ?? ""}</span>
          <code class="payload">${payload.slice(0, 200)}</code>
        </summary>
        <pre tabindex="0"><code>${JSON.stringify(event, null, 2)}</code></pre>
      </details>
    </li>
  `;
}
