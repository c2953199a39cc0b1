// @ts-check
// Runs: what became of each, and which stage took how long.

import { html } from "htm/preact";
import { useEffect, useRef } from "preact/hooks";
import { withQuery } from "./api.js";
import { EventRow } from "./events.js";
import { count, duration, size } from "./format.js";
import { Bone, Shape, Time, useAnswer } from "./parts.js";
import { turn, turned } from "./route.js";

/** @typedef {{name: string, state: string, started_at: string, ended_at: string, duration_ms: number | null, events: number, errors: number, rows: number | null, rows_in: number | null, rows_out: number | null, bytes: number | null}} RunStage */
/** @typedef {{run_id: string, state: string, attempts: number, started_at: string, ended_at: string | null, duration_ms: number | null, last_event_at: string, events: number, errors: number, error_summary: string | null, rows: number | null, rows_in: number | null, rows_out: number | null, bytes: number | null, stages: RunStage[]}} Run */

const STATES = ["RUNNING", "SUCCESS", "FAILED", "TIMED_OUT", "LOST"];
/** The shapes of states that mean about the same. @type {Record<string, string>} */
const LIKE = { RUNNING: "RUNNING", SUCCESS: "OK", FAILED: "UNHEALTHY", TIMED_OUT: "DEGRADED", LOST: "UNKNOWN" };
const SHOWN = 20;
const LISTED = 20; // events of an open run

/** @param {{id: number, query: URLSearchParams, turnOf: number, now: number}} props */
export function Runs({ id, query, turnOf, now }) {
  const state = query.get("r.state") ?? "", chosen = query.get("run") ?? "";
  const page = useAnswer(withQuery(`/systems/${id}/runs`, { limit: SHOWN, state }), turnOf);
  const one = useAnswer(chosen ? `/systems/${id}/runs/${encodeURIComponent(chosen)}` : null, turnOf);
  if (page.error?.status === 404) return null; // a server that keeps no runs
  /** @type {Run[]} */
  const runs = page.data?.items ?? [];
  const elsewhere = chosen && one.data?.run_id === chosen && !runs.some((run) => run.run_id === chosen) ? [one.data] : [];
  if (page.data && !runs.length && !state && !elsewhere.length) return null; // events without runs
  return html`
    <section class="sheet" aria-label="Runs">
      <div class="ranges">
        <h2>Runs</h2>
        <select aria-label="Show only runs in a state" value=${state} onChange=${(/** @type {any} */ event) => turn({ "r.state": event.target.value })}>
          <option value="">all states</option>
          ${STATES.map((one_) => html`<option key=${one_} value=${one_}>${one_}</option>`)}
        </select>
      </div>
      ${page.error && html`<p class="none" role="alert">Runs cannot be shown: ${page.error.message}.</p>`}
      <ol class="runs">
        ${page.data
          ? [...elsewhere, ...runs].map((run) => html`<${RunRow} key=${run.run_id} run=${run} detail=${chosen === run.run_id ? one.data : null} open=${chosen === run.run_id} now=${now} />`)
          : [0, 1, 2].map((at) => html`<li key=${at} class="run"><${Bone} width="100%" /></li>`)}
      </ol>
      ${chosen && one.error?.status === 404 && html`<p class="none">There is no run ${chosen} here any more.</p>`}
      ${page.data && !runs.length && html`<p class="none">No run is in this state.</p>`}
    </section>
  `;
}

/** @param {{run: Run, detail: any, open: boolean, now: number}} props */
function RunRow({ run, detail, open, now }) {
  const row = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    if (open) row.current?.scrollIntoView({ block: "center" }); // its address was opened, else the row would be there already
  }, []);
  const failed = run.state !== "SUCCESS" && run.state !== "RUNNING";
  const start = Date.parse(run.started_at), end = run.ended_at ? Date.parse(run.ended_at) : run.state === "LOST" ? Date.parse(run.last_event_at) : now;
  return html`
    <li ref=${row} class="run s-${LIKE[run.state]}">
      <a class="line" href=${turned({ run: open ? "" : run.run_id })} aria-expanded=${open ? "true" : "false"}>
        <span class="badge s-${LIKE[run.state]}">${run.state === "RUNNING" ? html`<i class="running"></i>` : html`<${Shape} state=${LIKE[run.state]} size=${14} />`}${run.state.replace("_", " ")}</span>
        <span class="id">${run.run_id}${run.attempts > 1 && html` <small>attempt ${run.attempts}</small>`}</span>
        <span class="when"><${Time} ms=${start} /></span>
        <span class="long">${duration(run.duration_ms)}</span>
        <span class="sums">${sums(run)}</span>
        <${Strip} stages=${run.stages} start=${start} end=${end} />
      </a>
      ${failed && run.error_summary && html`<p class="failure">${run.error_summary}</p>`}
      ${(open || failed) && run.stages.length > 0 && html`<${Gantt} stages=${run.stages} start=${start} end=${end} />`}
      ${open && html`<${Detail} detail=${detail} run=${run} />`}
    </li>
  `;
}

/** @param {Run | RunStage} one */
function sums(one) {
  const parts = [];
  if (one.rows != null) parts.push(`${count(one.rows)} rows`);
  if (one.rows_in != null || one.rows_out != null) parts.push(`${count(one.rows_in)} in, ${count(one.rows_out)} out`);
  if (one.bytes != null) parts.push(size(one.bytes));
  if (one.errors) parts.push(`${count(one.errors)} ${one.errors === 1 ? "error" : "errors"}`);
  return parts.join(" · ");
}

/** When a stage began and how long it took, in per cent of the run. @param {RunStage} stage @param {number} start @param {number} end */
function place(stage, start, end) {
  const whole = Math.max(1, end - start);
  // An event's time is when it was over: its latency lies before it.
  const ended = Date.parse(stage.ended_at), began = Math.min(Date.parse(stage.started_at), stage.duration_ms != null && stage.events === 1 ? ended - stage.duration_ms : Infinity);
  const left = Math.min(99, Math.max(0, ((began - start) / whole) * 100));
  return { left: `${left}%`, width: `${Math.min(100 - left, Math.max(0.8, ((ended - began) / whole) * 100))}%` };
}

/** All stages on one line. @param {{stages: RunStage[], start: number, end: number}} props */
const Strip = ({ stages, start, end }) => html`
  <span class="strip" aria-hidden="true">${stages.map((stage) => html`<i key=${stage.name} class="s-${LIKE[stage.state] ?? "OK"}" title=${stage.name} style=${place(stage, start, end)}></i>`)}</span>
`;

/** A line for each stage. @param {{stages: RunStage[], start: number, end: number}} props */
const Gantt = ({ stages, start, end }) => html`
  <table class="gantt" aria-label="Stages of the run">
    <tbody>
      ${stages.map(
        (stage) => html`
          <tr key=${stage.name} class="s-${LIKE[stage.state] ?? "OK"}">
            <th scope="row">${stage.state === "FAILED" && html`<${Shape} state="UNHEALTHY" size=${12} />`}${stage.name || "no stage"}</th>
            <td class="track"><span class="strip"><i class="s-${LIKE[stage.state] ?? "OK"}" style=${place(stage, start, end)}></i></span></td>
            <td class="n">${duration(stage.duration_ms)}</td>
            <td class="sums">${sums(stage)}</td>
          </tr>
        `,
      )}
    </tbody>
  </table>
`;

/** How it compares, and its latest events. @param {{detail: any, run: Run}} props */
const Detail = ({ detail, run }) => html`
  <div class="detail">
    <p class="foot">${detail?.rank?.text && html`${detail.rank.text} · `}${count(run.events)} ${run.events === 1 ? "event" : "events"} · <a href=${turned({ "e.run": run.run_id })}>below, with filters</a></p>
    <ol class="events">${(detail?.timeline?.items ?? []).slice(0, LISTED).map((/** @type {any} */ event) => html`<${EventRow} key=${`${event.entry}.${event.index}`} event=${event} />`)}</ol>
  </div>
`;
