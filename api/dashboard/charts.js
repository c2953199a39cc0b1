// @ts-check
// Curves by time: one look for all of them, one cursor across them, and a stretch of time picked by dragging.

import { html } from "htm/preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { local, utc } from "./format.js";

/** @typedef {{label: string, colour: string, values: (number | null)[], fill?: boolean}} Curve */
/** @typedef {{value: number, label: string, state: string}} Limit */

export const LEFT = 62; // pixels of the axis: charts and heat map stand in line
export const RIGHT = 24;

/** @type {Promise<any> | undefined} */
let loading;

/** uPlot, which comes as a plain script. @returns {Promise<any>} */
function load() {
  loading ??= new Promise((resolve, reject) => {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("vendor/uPlot.min.css", import.meta.url).href;
    const script = document.createElement("script");
    script.src = new URL("vendor/uPlot.iife.min.js", import.meta.url).href;
    script.onload = () => resolve(/** @type {any} */ (window).uPlot);
    script.onerror = () => reject(new Error("uPlot could not be fetched"));
    document.head.append(style, script);
  });
  return loading;
}

/** A colour of the page's, as it is now. @param {string} name */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Grows when the system turns dark or light. */
export function useScheme() {
  const [scheme, setScheme] = useState(0);
  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const turn = () => setScheme((before) => before + 1);
    dark.addEventListener("change", turn);
    return () => dark.removeEventListener("change", turn);
  }, []);
  return scheme;
}

/**
 * @param {{
 *   title: string, times: number[], curves: Curve[], limits?: Limit[], from: number, to: number,
 *   format: (value: number | null) => string, most?: number, zoom: (from: number, to: number) => void,
 * }} props times and range in milliseconds
 */
export function Chart({ title, times, curves, limits = [], from, to, format, most, zoom }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const legend = useRef(/** @type {HTMLElement | null} */ (null));
  const plot = useRef(/** @type {any} */ (null));
  const now = useRef({ curves, limits, format, zoom, times, from, to, most });
  now.current = { curves, limits, format, zoom, times, from, to, most };
  const scheme = useScheme();

  useEffect(() => {
    let gone = false;
    /** @type {ResizeObserver | undefined} */
    let watch;
    load().then((uPlot) => {
      const host = box.current;
      if (gone || !host) return;
      plot.current = new uPlot(options(now, legend, host.clientWidth), data(times, curves), host);
      watch = new ResizeObserver(() => plot.current?.setSize({ width: host.clientWidth, height: 150 }));
      watch.observe(host);
    }, () => undefined);
    return () => {
      gone = true;
      watch?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [scheme, curves.map(({ label }) => label).join()]);

  useEffect(() => {
    plot.current?.setData(data(times, curves));
    tell(plot.current, now.current, legend.current);
  }, [times, curves, from, to]);

  const last = (/** @type {Curve} */ curve) => curve.values.findLast((value) => value !== null) ?? null;
  return html`
    <figure class="chart" role="img" aria-label=${`${title}: ${curves.map((curve) => `${curve.label} ${format(last(curve))}`).join(", ")}`}>
      <figcaption>
        <b>${title}</b>
        <span class="legend" ref=${legend}>
          <time></time>
          ${curves.map((curve) => html`<span key=${curve.label}><i style=${{ background: `var(--${curve.colour})` }}></i>${curve.label} <output></output></span>`)}
        </span>
        ${limits.map((limit) => html`<span key=${limit.label} class="limit s-${limit.state}">${limit.label} ${format(limit.value)}</span>`)}
      </figcaption>
      <div class="plot" ref=${box}></div>
    </figure>
  `;
}

/** @param {number[]} times @param {Curve[]} curves */
const data = (times, curves) => [times.map((ms) => ms / 1000), ...curves.map(({ values }) => values)];

/** @param {{current: any}} now @param {{current: HTMLElement | null}} legend @param {number} width */
function options(now, legend, width) {
  const ink = colour("soft"), line = colour("line");
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 }, font: "11px system-ui, sans-serif" };
  return {
    width,
    height: 150,
    padding: [10, RIGHT, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "lso" }, drag: { x: true, y: false, setScale: false }, points: { size: 6 }, y: false },
    scales: {
      x: { time: true, range: () => [now.current.from / 1000, now.current.to / 1000] },
      y: { range: (/** @type {any} */ _plot, /** @type {number} */ _least, /** @type {number | null} */ top) => [0, ceiling(top ?? 0, now.current.limits, now.current.most)] },
    },
    axes: [
      { ...axis, size: 30, space: 70, values: (/** @type {any} */ _plot, /** @type {number[]} */ splits) => splits.map((s, at) => mark(s * 1000, at > 0 ? splits[at - 1] * 1000 : null)) },
      { ...axis, size: LEFT, space: 30, values: (/** @type {any} */ _plot, /** @type {number[]} */ splits) => splits.map((value) => now.current.format(value)) },
    ],
    series: [{}, ...now.current.curves.map((/** @type {Curve} */ curve) => ({ label: curve.label, stroke: colour(curve.colour), width: 1.6, fill: curve.fill ? `${colour(curve.colour)}1f` : undefined, points: { size: 4 } }))],
    hooks: {
      draw: [(/** @type {any} */ plot) => drawLimits(plot, now.current.limits)],
      setCursor: [(/** @type {any} */ plot) => tell(plot, now.current, legend.current)],
      setSelect: [
        (/** @type {any} */ plot) => {
          const { left, width: wide } = plot.select;
          if (wide < 8) return;
          const [from, to] = [plot.posToVal(left, "x") * 1000, plot.posToVal(left + wide, "x") * 1000];
          plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          now.current.zoom(from, to);
        },
      ],
    },
  };
}

/** Room for the data, and for limits that are not far above it. @param {number} top @param {Limit[]} limits @param {number | undefined} most */
function ceiling(top, limits, most) {
  const near = limits.filter(({ value }) => value <= top * 4 || top === 0).map(({ value }) => value);
  const all = Math.max(top, ...near, 0) * 1.08 || 1;
  return most === undefined ? all : Math.min(Math.max(all, most / 20), most);
}

/** A tick: the day where it is a new one. @param {number} ms @param {number | null} before */
function mark(ms, before) {
  const time = new Date(ms);
  const newDay = before !== null && new Date(before).getDate() !== time.getDate();
  if (newDay || (before !== null && ms - before >= 86_400_000)) return time.toLocaleDateString(undefined, { day: "numeric", month: "short" });
  return local(ms, { seconds: false, day: false });
}

/** @param {any} plot @param {Limit[]} limits */
function drawLimits(plot, limits) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  for (const { value, state } of limits) {
    const y = Math.round(plot.valToPos(value, "y", true)) + 0.5;
    if (y < bbox.top || y > bbox.top + bbox.height) continue;
    ctx.strokeStyle = colour(`${state.toLowerCase()}-fill`);
    ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
  }
  ctx.restore();
}

/** The values under the cursor, else the last; the texts are set here alone. @param {any} plot @param {any} now @param {HTMLElement | null} legend */
function tell(plot, { curves, format, times }, legend) {
  if (!legend) return;
  const at = plot?.cursor.idx;
  const time = /** @type {HTMLElement} */ (legend.querySelector("time"));
  const pointed = at !== null && at !== undefined && times[at] !== undefined;
  time.textContent = pointed ? local(times[at], { seconds: false }) : "";
  time.title = pointed ? utc(times[at]) : "";
  legend.querySelectorAll("output").forEach((output, number) => {
    const values = curves[number]?.values ?? [];
    output.textContent = format(pointed ? values[at] : (values.findLast((/** @type {any} */ value) => value !== null) ?? null));
  });
}
