// @ts-check
// Latencies by time: how many fell where, which no percentile tells.

import { html } from "htm/preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { LEFT, RIGHT, colour, useScheme } from "./charts.js";
import { count, duration, local } from "./format.js";

const HEIGHT = 190;

/** @typedef {{times: string[], buckets: {low: number, high: number}[], cells: [number, number, number][], step: number}} Heat */

/** @param {{heat: Heat, from: number, to: number}} props */
export function HeatMap({ heat, from, to }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const [width, setWidth] = useState(0);
  const [pointed, setPointed] = useState("");
  const scheme = useScheme();
  useEffect(() => {
    const host = canvas.current?.parentElement;
    if (!host) return undefined;
    const watch = new ResizeObserver(() => setWidth(host.clientWidth));
    watch.observe(host);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    if (canvas.current && width) draw(canvas.current, heat, from, to, width);
  }, [heat, from, to, width, scheme]);
  const shape = scaled(heat, from, to, width);
  /** @param {MouseEvent} event */
  const point = (event) => {
    const found = shape.at(event.offsetX, event.offsetY);
    setPointed(found ? `${local(Date.parse(heat.times[found[0]]), { seconds: false })} · ${duration(heat.buckets[found[1]].low)} to ${duration(heat.buckets[found[1]].high)}: ${count(found[2])} events` : "");
  };
  const most = heat.cells.reduce((sum, [, , some]) => sum + some, 0);
  return html`
    <figure class="chart" role="img" aria-label=${`Latencies by time, ${most} events between ${heat.buckets.length ? `${duration(heat.buckets[0].low)} and ${duration(heat.buckets[heat.buckets.length - 1].high)}` : "no bounds"}`}>
      <figcaption><b>Where latencies fell</b><span class="legend">${pointed || "darker is more events"}</span></figcaption>
      <div class="plot" style=${{ height: `${HEIGHT}px` }}><canvas ref=${canvas} onMouseMove=${point} onMouseLeave=${() => setPointed("")}></canvas></div>
    </figure>
  `;
}

/** Where things stand: logarithmic in latency. @param {Heat} heat @param {number} from @param {number} to @param {number} width */
function scaled({ times, buckets, cells, step }, from, to, width) {
  const wide = width - LEFT - RIGHT, high = HEIGHT - 14;
  const least = Math.log(Math.max(buckets[0]?.low ?? 1, 0.001)), most = Math.log(Math.max(buckets[buckets.length - 1]?.high ?? 10, 0.002));
  const x = (/** @type {number} */ ms) => LEFT + ((ms - from) / (to - from)) * wide;
  const y = (/** @type {number} */ value) => 6 + high * (1 - (Math.log(Math.max(value, 0.001)) - least) / (most - least || 1));
  const starts = times.map((time) => Date.parse(time));
  const boxes = cells.map(([column, row, some]) => {
    const left = Math.max(LEFT, x(starts[column])), right = Math.min(LEFT + wide, x(starts[column] + step * 1000));
    const top = y(buckets[row].high), bottom = y(buckets[row].low);
    return { left, top, wide: Math.max(1, right - left), high: Math.max(1.5, bottom - top), some, cell: /** @type {[number, number, number]} */ ([column, row, some]) };
  });
  const at = (/** @type {number} */ left, /** @type {number} */ top) => boxes.find((box) => left >= box.left && left < box.left + box.wide && top >= box.top && top < box.top + box.high)?.cell;
  return { boxes, at, y, least: Math.exp(least), most: Math.exp(most) };
}

/** @param {HTMLCanvasElement} canvas @param {Heat} heat @param {number} from @param {number} to @param {number} width */
function draw(canvas, heat, from, to, width) {
  const ratio = devicePixelRatio;
  canvas.width = width * ratio;
  canvas.height = HEIGHT * ratio;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${HEIGHT}px`;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.scale(ratio, ratio);
  const shape = scaled(heat, from, to, width);
  drawAxis(context, shape, width);
  const most = Math.log1p(Math.max(1, ...shape.boxes.map(({ some }) => some)));
  context.fillStyle = colour("accent");
  for (const box of shape.boxes) {
    context.globalAlpha = 0.12 + 0.88 * (Math.log1p(box.some) / most);
    context.fillRect(box.left, box.top, Math.max(1, box.wide - (box.wide > 4 ? 1 : 0)), box.high);
  }
  context.globalAlpha = 1;
}

/** @param {CanvasRenderingContext2D} context @param {ReturnType<typeof scaled>} shape @param {number} width */
function drawAxis(context, shape, width) {
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "right";
  context.textBaseline = "middle";
  let before = Infinity;
  for (let exponent = -3; exponent <= 9; exponent += 1) {
    for (const digit of [1, 3]) {
      const value = digit * 10 ** exponent, y = shape.y(value);
      if (value < shape.least || value > shape.most || before - y < 24) continue;
      before = y;
      context.strokeStyle = colour("line");
      context.beginPath();
      context.moveTo(LEFT, Math.round(y) + 0.5);
      context.lineTo(width - RIGHT, Math.round(y) + 0.5);
      context.stroke();
      context.fillStyle = colour("soft");
      context.fillText(duration(value), LEFT - 8, y);
    }
  }
}
