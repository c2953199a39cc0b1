// @ts-check
// The small curves on the tiles: p95 of the last hour where the server keeps history, else what this page has seen.

import { get, withQuery } from "./api.js";

const KEPT = 60;
const EVERY_MS = 5000;
const HOUR_MS = 3_600_000;
const FRESH_MS = 90_000; // past that history is asked for again
const ASKED = 100; // systems in one question
const PAUSE_MS = 300;
// What is drawn where there is no curve: nothing to see, and still a path. Where painting appears or goes the browser sorts all layers anew.
const NONE = "M0 26h0";

/**
 * @typedef {object} Curve
 * @property {number[]} times
 * @property {(number | null)[]} values as this page has seen them
 * @property {{times: number[], values: (number | null)[]} | null} past as the server tells it
 * @property {number} askedAt
 * @property {string | null} path null until somebody looks
 * @property {number} version grows with each change
 */

export class Sparks {
  constructor() {
    /** @type {Map<number, Curve>} */
    this.curves = new Map();
    this.taken = 0;
    this.keepsHistory = true;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /** Note a value of each system, every few seconds. @param {import("./live.js").Known} known */
  take(known) {
    if (known.asOf - this.taken < EVERY_MS) return;
    this.taken = known.asOf;
    for (const id of this.curves.keys()) if (!known.lines.has(id)) this.curves.delete(id);
    for (const [id, line] of known.lines) {
      const curve = this.curves.get(id) ?? { times: [], values: [], past: null, askedAt: 0, path: null, version: 0 };
      curve.times.push(known.asOf);
      curve.values.push(line.p95_latency);
      if (curve.times.length > KEPT) {
        curve.times.shift();
        curve.values.shift();
      }
      this.changed(curve);
      this.curves.set(id, curve);
    }
  }

  /** Ask for the last hour of systems that are on the screen. @param {number[]} ids @param {() => void} done */
  show(ids, done) {
    clearTimeout(this.timer);
    if (!this.keepsHistory) return;
    this.timer = setTimeout(async () => {
      const now = Date.now();
      const wanted = [...new Set(ids)].filter((id) => now - (this.curves.get(id)?.askedAt ?? now) > FRESH_MS).slice(0, ASKED);
      if (!wanted.length) return;
      for (const id of wanted) /** @type {Curve} */ (this.curves.get(id)).askedAt = now;
      try {
        this.keep(await get(withQuery("/series", { ...stretch(this.taken), systems: wanted.join(), metric: "p95", step: "2m" })));
        done();
      } catch (error) {
        this.keepsHistory = /** @type {import("./api.js").ApiError} */ (error).status !== 404;
      }
    }, PAUSE_MS);
  }

  /** @param {{series: {system_id: number, points: {time: string, p95: number | null}[]}[]}} answer */
  keep({ series }) {
    for (const { system_id: id, points } of series) {
      const curve = this.curves.get(id);
      if (!curve) continue;
      curve.past = { times: points.map(({ time }) => Date.parse(time)), values: points.map(({ p95 }) => p95) };
      this.changed(curve);
    }
  }

  /** @param {Curve} curve */
  changed(curve) {
    curve.path = null;
    curve.version += 1;
  }

  /** Tells whether a curve is another one, without drawing it: hundreds change at once. @param {number} id */
  version(id) {
    return this.curves.get(id)?.version ?? 0;
  }

  /** @param {number} id */
  of(id) {
    const curve = this.curves.get(id);
    return curve ? (curve.path ??= draw(curve.past ? { times: [...curve.past.times, this.taken], values: [...curve.past.values, curve.values[curve.values.length - 1]] } : curve)) : NONE;
  }
}

/** The last hour in whole steps. @param {number} now */
function stretch(now) {
  const to = Math.floor(now / 120_000) * 120_000;
  return { from: new Date(to - HOUR_MS).toISOString(), to: new Date(to).toISOString() };
}

/** A path in a box of 100 by 28. @param {{times: number[], values: (number | null)[]}} curve */
function draw({ times, values }) {
  const seen = /** @type {number[]} */ (values.filter((value) => value !== null));
  if (seen.length < 2) return NONE;
  const most = Math.max(...seen), least = Math.min(...seen);
  const first = times[values.findIndex((value) => value !== null)], length = times[times.length - 1] - first || 1;
  const height = Math.max(most - least, most * 0.2, 1e-9);
  let path = "", pen = "M";
  values.forEach((value, at) => {
    if (value === null) pen = "M";
    else {
      path += `${pen}${(((times[at] - first) / length) * 100).toFixed(1)} ${(26 - ((value - least) / height) * 24).toFixed(1)}`;
      pen = "L";
    }
  });
  return path;
}
