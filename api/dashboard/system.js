// @ts-check
// One system: how well it is and why, what it did, and when.

import { html } from "htm/preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { withQuery } from "./api.js";
import { Chart } from "./charts.js";
import { Events } from "./events.js";
import { sign } from "./fleet.js";
import { count, duration, local, percent, rate, span } from "./format.js";
import { HeatMap } from "./heatmap.js";
import { Bone, Notice, Pulse, Shape, Time, Trouble, WORDS, look, useAnswer, useLive, useTick } from "./parts.js";
import { NAMED, grid, iso, readRange } from "./range.js";
import { turn, turned } from "./route.js";
import { Runs } from "./runs.js";

/** @typedef {import("./types.d.ts").Metrics} Metrics */
/** @typedef {import("./types.d.ts").System} System */
/** @typedef {import("./types.d.ts").Line} Line */

const HISTORY_MS = 15_000; // how often charts that end now are drawn again
const METRICS_MS = 2000;

/** @param {{id: number, query: URLSearchParams}} props */
export function SystemView({ id, query }) {
  const live = useLive({ systems: String(id) });
  const line = live.lines.get(id) ?? null;
  const turnOf = usePaced(live.version, METRICS_MS);
  const system = useAnswer(`/systems/${id}`, line && `${line.name} ${line.tags}`);
  const metrics = useAnswer(`/systems/${id}/metrics`, turnOf);
  const name = line?.name ?? system.data?.name ?? `system ${id}`;
  const gone = system.error?.status === 404;
  useEffect(() => {
    document.title = `${live.trouble ? "no connection · " : line && line.health !== "OK" ? `${line.health} · ` : ""}${name} · LSO`;
    sign(live.trouble ? "UNKNOWN" : (line?.health ?? ""));
  }, [live.trouble, line?.health, name]);
  return html`
    <header class="bar">
      <nav aria-label="Breadcrumbs" class="trail"><ol class="crumbs">
        <li><a href="/"><b>LSO</b></a></li>
        <li aria-current=${query.get("run") ? undefined : "page"}>${query.get("run") ? html`<a href=${turned({ run: "" })}>${name}</a>` : name}</li>
        ${query.get("run") && html`<li aria-current="page">run ${query.get("run")}</li>`}
      </ol></nav>
      <${Pulse} known=${live} />
    </header>
    <main id="main" class=${live.trouble ? "page system old" : "page system"} tabindex="-1">
      <${Trouble} known=${live} />
      ${gone
        ? html`<${Notice} title=${`There is no system ${id}`} state="UNKNOWN"><p>It was deleted, or never was. <a href="/">All systems</a></p><//>`
        : html`
            <${Verdict} name=${name} line=${line} system=${system.data} known=${live} />
            <${Figures} metrics=${metrics.data} line=${line} />
            <${History} id=${id} query=${query} system=${system.data} now=${live.asOf || Date.now()} />
            <${Stages} metrics=${metrics.data} query=${query} />
            <${Runs} id=${id} query=${query} turnOf=${turnOf} now=${live.asOf || Date.now()} />
            <${Events} id=${id} query=${query} stages=${Object.keys(metrics.data?.stages ?? {})} kinds=${Object.keys(metrics.data?.event_types ?? {})} turnOf=${turnOf} />
          `}
    </main>
  `;
}

/** Follows a number, but not more often than every so many milliseconds from one time to the next. @param {number} value @param {number} ms */
function usePaced(value, ms) {
  const [paced, setPaced] = useState(value);
  const last = useRef(0);
  useEffect(() => {
    const wait = Math.max(0, last.current + ms - Date.now());
    const timer = setTimeout(() => {
      last.current = Date.now();
      setPaced(value);
    }, wait);
    return () => clearTimeout(timer);
  }, [value]);
  return paced;
}

/** @param {{name: string, line: Line | null, system: System | null, known: import("./live.js").Known}} props */
function Verdict({ name, line, system, known }) {
  useTick(1000);
  const state = line ? look(line) : "";
  const now = known.asOf + (Date.now() - known.heardAt);
  return html`
    <section class="verdict s-${state}" aria-label="State" aria-live="polite">
      <div class="title">
        ${line ? html`<${Shape} state=${state} size=${34} />` : html`<${Bone} width="34px" />`}
        <div>
          <h1>${name}</h1>
          <p class="why">${line ? html`<b class="word">${WORDS[state]}</b> <span>${line.reason}</span>` : html`<${Bone} width="24em" />`}</p>
        </div>
      </div>
      <p class="since">
        ${line ? html`${state === "BEHIND" ? "figures of" : "since"} <${Time} ms=${Date.parse(line.since)} /> <small>(${span(now - Date.parse(line.since))})</small>` : html`<${Bone} width="12em" />`}
        ${!system && html`<${Bone} width="8em" />`}${system && html`<span class="tags">${system.tags.map((tag) => html`<a key=${tag} class="tag" href=${withQuery("/", { tag })}>${tag}</a>`)}</span>`}
      </p>
      ${system ? system.description && html`<p class="about">${system.description}</p>` : html`<p class="about"><${Bone} width="20em" /></p>`}
    </section>
  `;
}

/** The window's figures. @param {{metrics: Metrics | null, line: Line | null}} props */
function Figures({ metrics, line }) {
  useTick(1000);
  const latency = metrics?.latency_ms;
  /** @type {[string, any, string?][]} */
  const figures = [
    ["events", count(metrics?.total)],
    ["errors", metrics && html`${count(metrics.errors)} <small>${percent(metrics.error_rate)}</small>`],
    ["rate", rate(metrics?.rps)],
    ["p50", duration(latency?.p50)],
    ["p95", duration(latency?.p95)],
    ["p99", duration(latency?.p99)],
    ["slowest", duration(latency?.max)],
    ["last event", metrics && (metrics.last_event_at ? html`<${Time} ms=${Date.parse(metrics.last_event_at)} />` : "never")],
    ["last good", metrics && (metrics.last_ok_at ? html`<${Time} ms=${Date.parse(metrics.last_ok_at)} />` : "never")],
  ];
  return html`
    <section class="sheet" aria-label="The window">
      <dl class=${line?.observer_behind ? "window stale" : "window"}>
        ${figures.map(([term, value]) => html`<div key=${term}><dt>${term}</dt><dd>${metrics ? value : html`<${Bone} width="3.4em" />`}</dd></div>`)}
      </dl>
      <p class="foot">
        ${metrics
          ? html`the last ${metrics.window_seconds} s · ${Object.entries(metrics.event_types).map(([kind, some]) => `${kind} ${count(some)}`).join(" · ") || "no counted events"}
              ${metrics.late > 0 && html` · <span title="They happened before the window and are counted here alone">late ${count(metrics.late)}</span>`}
              ${metrics.clock_skewed > 0 && html` · <span title="Their ts ran ahead of their arrival">clock-skewed ${count(metrics.clock_skewed)}</span>`}`
          : html`<${Bone} width="16em" />`}
      </p>
    </section>
  `;
}

/** Charts over a stretch of time. @param {{id: number, query: URLSearchParams, system: System | null, now: number}} props */
function History({ id, query, system, now }) {
  const beat = Math.floor(now / HISTORY_MS);
  const range = useMemo(() => readRange(query, now), [query.toString(), query.get("from") ? 0 : beat]);
  const { from, to, step } = grid(range, now);
  const stretch = { from: iso(from), to: iso(to), step: `${step / 60_000}m` };
  const series = useAnswer(withQuery(`/systems/${id}/series`, { metric: "total,error_rate,p50,p95,p99", ...stretch }), beat);
  const heat = useAnswer(series.error ? null : withQuery(`/systems/${id}/histogram`, { form: "heatmap", ...stretch, parts: 4 }), beat);
  /** @param {number} a @param {number} b */
  const zoom = (a, b) => turn({ from: iso(Math.floor(a / 60_000) * 60_000), to: iso(Math.ceil(b / 60_000) * 60_000), range: "" });
  return html`
    <section class="sheet" aria-label="History">
      <${RangeBar} range=${range} />
      ${series.error && !series.data ? html`<${NoHistory} error=${series.error} />` : html`<${Curves} answer=${series.data} system=${system} from=${from} to=${to} zoom=${zoom} />`}
      ${heat.data?.cells?.length > 0 && html`<${HeatMap} heat=${heat.data} from=${from} to=${to} />`}
    </section>
  `;
}

/** @param {{error: import("./api.js").ApiError}} props */
function NoHistory({ error }) {
  return error.status === 404
    ? html`<p class="none">This server keeps no history: only the window above, and recent events below.</p>`
    : html`<p class="none" role="alert">History cannot be shown: ${error.message}.</p>`;
}

/** @param {{answer: any, system: System | null, from: number, to: number, zoom: (from: number, to: number) => void}} props */
function Curves({ answer, system, from, to, zoom }) {
  const points = answer?.series?.[0]?.points ?? [];
  const { times, of, rates } = useMemo(
    () => ({
      times: points.map((/** @type {any} */ point) => Date.parse(point.time)),
      of: (/** @type {string} */ name) => points.map((/** @type {any} */ point) => point[name] ?? null),
      rates: points.map((/** @type {any} */ point) => perSecond(point, answer)),
    }),
    [points],
  );
  const curves = useMemo(
    () => ({
      rate: [{ label: "rate", colour: "accent", values: rates, fill: true }],
      errors: [{ label: "errors", colour: "unhealthy-fill", values: of("error_rate"), fill: true }],
      latency: [
        { label: "p50", colour: "p50", values: of("p50") },
        { label: "p95", colour: "p95", values: of("p95") },
        { label: "p99", colour: "p99", values: of("p99") },
      ],
    }),
    [of],
  );
  const empty = answer !== null && points.every((/** @type {any} */ point) => !point.total);
  const shared = { times, from, to, zoom };
  return html`
    ${empty && html`<p class="none">No events in this stretch of time.</p>`}
    <div class="charts" aria-busy=${answer === null ? "true" : "false"}>
      <${Chart} title="Events" ...${shared} curves=${curves.rate} format=${rate} />
      <${Chart} title="Errors" ...${shared} curves=${curves.errors} format=${percent} most=${1} limits=${limitsOf(system?.thresholds.error_rate)} />
      <${Chart} title="Latency" ...${shared} curves=${curves.latency} format=${duration} limits=${limitsOf(system?.thresholds.p95_latency)} />
    </div>
  `;
}

/**
 * Events a second of a point. The last one is not over, so that its rate is that of the time there was; null where that is too
 * little to tell.
 * @param {any} point @param {any} answer
 */
function perSecond(point, answer) {
  if (point.total == null) return null;
  const went = Math.min(answer.step, (Date.parse(answer.series[0].as_of ?? answer.to) - Date.parse(point.time)) / 1000);
  return went < Math.min(20, answer.step) ? null : point.total / went;
}

/** @param {import("./types.d.ts").Level | undefined} level */
function limitsOf(level) {
  /** @type {import("./charts.js").Limit[]} */
  const limits = [];
  if (level?.warn != null) limits.push({ value: level.warn, label: "degraded above", state: "DEGRADED" });
  if (level?.crit != null) limits.push({ value: level.crit, label: "unhealthy above", state: "UNHEALTHY" });
  return limits;
}

/** @param {{range: import("./types.d.ts").Range}} props */
function RangeBar({ range }) {
  const [free, setFree] = useState(false);
  const from = useRef(/** @type {HTMLInputElement | null} */ (null));
  const to = useRef(/** @type {HTMLInputElement | null} */ (null));
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    const [a, b] = [Date.parse(from.current?.value ?? ""), Date.parse(to.current?.value ?? "")];
    to.current?.setCustomValidity(a < b ? "" : "to must be later than from");
    if (to.current?.reportValidity() && from.current?.reportValidity()) {
      setFree(false);
      turn({ from: iso(a), to: iso(b), range: "" });
    }
  };
  // Defaults, as values would be set anew each time this is rendered, over what somebody is typing.
  const field = (/** @type {number} */ ms) => local(ms, { seconds: false, day: true }).replace(" ", "T");
  return html`
    <div class="ranges" role="group" aria-label="Stretch of time">
      <h2>History</h2>
      <div class="picks">
        ${NAMED.map(([name, , words]) => html`<a key=${name} class="pick" href=${turned({ range: name, from: "", to: "" })} aria-label=${`the last ${words}`} aria-current=${range.name === name ? "true" : undefined}>${name}</a>`)}
        <button type="button" class="pick" aria-expanded=${free ? "true" : "false"} aria-current=${range.name ? undefined : "true"} onClick=${() => setFree(!free)}>free</button>
      </div>
      ${!range.live && html`<span class="said"><${Time} ms=${range.from} seconds=${false} day=${true} /> to <${Time} ms=${range.to} seconds=${false} day=${true} /></span>`}
      <small class="hint">drag over a chart to zoom</small>
      ${free &&
      html`<form class="free" onSubmit=${submit}>
        <label>from <input ref=${from} type="datetime-local" required defaultValue=${field(range.from)} /></label>
        <label>to <input ref=${to} type="datetime-local" required defaultValue=${field(range.to)} /></label>
        <button type="submit">Show</button>
      </form>`}
    </div>
  `;
}

/** @param {{metrics: Metrics | null, query: URLSearchParams}} props */
function Stages({ metrics, query }) {
  const stages = Object.entries(metrics?.stages ?? {}).sort(([, a], [, b]) => b.errors - a.errors || b.total - a.total);
  if (metrics && !stages.length) return null;
  const most = Math.max(1, ...stages.map(([, stage]) => stage.total));
  return html`
    <section class="sheet" aria-label="Stages">
      <h2>Stages <small>in the window</small></h2>
      <div class="scroll" tabindex="0" role="region" aria-label="Table of stages">
        <table>
          <thead><tr><th scope="col">stage</th><th scope="col" class="share">events</th><th scope="col" class="n">errors</th><th scope="col" class="n">error rate</th><th scope="col" class="n">p50</th><th scope="col" class="n">p95</th><th scope="col" class="n">p99</th><th scope="col" class="n">slowest</th></tr></thead>
          <tbody>
            ${metrics
              ? stages.map(
                  ([name, stage]) => html`
                    <tr key=${name} class=${stage.errors ? "has-errors" : ""}>
                      <th scope="row"><a href=${turned({ "e.stage": query.get("e.stage") === name ? "" : name })}>${name || "no stage"}</a></th>
                      <td class="share"><i style=${{ width: `${(stage.total / most) * 62}%` }}></i>${count(stage.total)}</td>
                      <td class="n ${stage.errors ? "bad" : ""}">${count(stage.errors)}</td><td class="n ${stage.errors ? "bad" : ""}">${percent(stage.error_rate)}</td>
                      <td class="n">${duration(stage.latency_ms.p50)}</td><td class="n">${duration(stage.latency_ms.p95)}</td><td class="n">${duration(stage.latency_ms.p99)}</td><td class="n">${duration(stage.latency_ms.max)}</td>
                    </tr>
                  `,
                )
              : [0, 1, 2].map((at) => html`<tr key=${at}><td colspan="8"><${Bone} width="100%" /></td></tr>`)}
          </tbody>
        </table>
      </div>
    </section>
  `;
}
