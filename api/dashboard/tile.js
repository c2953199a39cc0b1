// @ts-check
// One system's tile, and how tiles follow what changes: a few in each frame, so that no frame is late.

import { html } from "htm/preact";
import { Component } from "preact";
import { age, duration, percent, rate } from "./format.js";
import { nothing } from "./live.js";
import { Shape, WORDS, look } from "./parts.js";
import { Sparks } from "./sparks.js";

/** @typedef {import("./types.d.ts").Line} Line */

export const HEIGHT = 122;
const BUDGET_MS = 8; // of a frame

/** The fleet as it is known; it stays when one comes back from a system. */
export const known = nothing();
export const sparks = new Sparks();

/** @type {Set<Tile>} */
const mounted = new Set();
/** @type {Tile[]} */
let queue = [];
let running = false;
let chunk = 20;

/** Have every tile that shows something old drawn again, soon. */
export function refresh() {
  queue = [...mounted].filter((tile) => tile.stale());
  if (queue.length && !running) {
    running = true;
    requestAnimationFrame(paint);
  }
}

function paint() {
  const began = performance.now();
  for (const tile of queue.splice(0, chunk)) if (mounted.has(tile)) tile.forceUpdate();
  queueMicrotask(() => {
    const took = performance.now() - began;
    chunk = Math.max(5, Math.min(100, Math.round((chunk * BUDGET_MS) / Math.max(took, BUDGET_MS / 2))));
  });
  if (queue.length) requestAnimationFrame(paint);
  else running = false;
}

/**
 * @typedef {object} Place
 * @property {string} name
 * @property {number} id
 * @property {number} x
 * @property {number} y
 * @property {number} wide
 * @property {number} position
 * @property {number} of
 */

/** @extends {Component<Place>} */
export class Tile extends Component {
  constructor() {
    super();
    /** @type {Line | undefined} */
    this.line = undefined;
    this.said = "";
    this.sparkVersion = 0;
  }

  componentDidMount() {
    mounted.add(this);
  }

  componentWillUnmount() {
    mounted.delete(this);
  }

  /** @param {Place} next */
  shouldComponentUpdate(next) {
    const now = this.props;
    return next.id !== now.id || next.x !== now.x || next.y !== now.y || next.wide !== now.wide || next.position !== now.position || next.of !== now.of;
  }

  /** Whether it shows something else than what is known. */
  stale() {
    const { id } = this.props;
    const line = known.lines.get(id);
    return line !== undefined && (line !== this.line || lastSeen(line) !== this.said || sparks.version(id) !== this.sparkVersion);
  }

  render() {
    const { name, id, x, y, wide, position, of } = this.props;
    const line = known.lines.get(id) ?? this.line;
    if (!line) return null;
    this.line = line;
    this.said = lastSeen(line);
    this.sparkVersion = sparks.version(id);
    const state = look(line);
    const place = { transform: `translate(${x}px, ${y}px)`, width: `${wide}px`, height: `${HEIGHT}px` };
    return html`
      <div class="tile s-${state}" role="listitem" aria-posinset=${position} aria-setsize=${of} data-key=${name} style=${place}>
        <a href="/systems/${id}" title=${line.reason}>
          <span class="top"><${Shape} state=${state} size=${14} /><b class="state">${WORDS[state]}</b><span class="age" title="Age of the last event">${this.said}</span></span>
          <strong>${line.name}</strong>
          <span class="reason">${line.reason}</span>
          <span class="figures">
            <span><b>${rate(line.rps)}</b><small>rate</small></span>
            <span><b>${percent(line.error_rate)}</b><small>errors</small></span>
            <span><b>${duration(line.p95_latency)}</b><small>p95</small></span>
            <svg class="spark" viewBox="0 0 100 28" preserveAspectRatio="none" aria-hidden="true"><path d=${sparks.of(id)} /></svg>
          </span>
        </a>
      </div>
    `;
  }
}

/** Age of the last event, by the server's clock. @param {Line} line */
function lastSeen(line) {
  if (!line.last_event_at) return "";
  return age(known.asOf + (Date.now() - known.heardAt) - Date.parse(line.last_event_at));
}
