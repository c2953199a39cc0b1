// @ts-check
// One system's tile, and how tiles follow what changes: as many in each frame as leave it in time.

import { html } from "htm/preact";
import { Component } from "preact";
import { age, duration, percent, rate } from "./format.js";
import { nothing } from "./live.js";
import { Shape, WORDS, look } from "./parts.js";
import { Sparks } from "./sparks.js";

/** @typedef {import("./types.d.ts").Line} Line */

export const HEIGHT = 122;
const IN_A_FRAME = 12; // tiles, 5 to 8 ms of work: where frames are late tiles wait, and frames do not grow

/** The fleet as it is known; it stays when one comes back from a system. */
export const known = nothing();
export const sparks = new Sparks();

/** @type {Set<Tile>} */
const mounted = new Set();
/** Tiles that show something old. @type {Tile[]} */
let queue = [];
let running = false;

/** Have every tile that shows something old drawn again, soon: first where a state is another, then who waits longest. */
export function refresh() {
  const stale = [...new Set([...queue, ...mounted])].filter((tile) => mounted.has(tile) && tile.stale());
  queue = [...stale.filter((tile) => tile.turned()), ...stale.filter((tile) => !tile.turned())];
  if (queue.length && !running) {
    running = true;
    requestAnimationFrame(paint);
  }
}

function paint() {
  for (const tile of queue.splice(0, IN_A_FRAME)) if (mounted.has(tile)) tile.draw();
  running = queue.length > 0;
  if (running) requestAnimationFrame(paint);
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

/**
 * What a tile says.
 * @typedef {object} Shown
 * @property {Line} line
 * @property {string} age of the last event
 * @property {number} curve version of the small curve
 */

/** Its place follows the grid at once, what it says when its turn comes. @extends {Component<Place>} */
export class Tile extends Component {
  /** @param {Place} props */
  constructor(props) {
    super(props);
    this.shown = shown(props.id);
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
    return next.x !== now.x || next.y !== now.y || next.wide !== now.wide || next.position !== now.position || next.of !== now.of;
  }

  /** Whether it shows something else than what is known. */
  stale() {
    const now = shown(this.props.id), { shown: then } = this;
    return now !== undefined && (now.line !== then?.line || now.age !== then.age || now.curve !== then.curve);
  }

  /** Whether its state is another than it shows. */
  turned() {
    const line = known.lines.get(this.props.id);
    return line !== undefined && this.shown !== undefined && look(line) !== look(this.shown.line);
  }

  /** Show what is known. */
  draw() {
    this.shown = shown(this.props.id) ?? this.shown;
    this.forceUpdate();
  }

  render() {
    const { name, id, x, y, wide, position, of } = this.props;
    if (!this.shown) return null;
    const place = { transform: `translate(${x}px, ${y}px)`, width: `${wide}px`, height: `${HEIGHT}px` };
    return html`
      <div class="tile s-${look(this.shown.line)}" role="listitem" aria-posinset=${position} aria-setsize=${of} data-key=${name} style=${place}>
        <${Face} id=${id} shown=${this.shown} />
      </div>
    `;
  }
}

/** All of a tile but its place: hundreds that only move are not looked into. @extends {Component<{id: number, shown: Shown}>} */
class Face extends Component {
  /** @param {{shown: Shown}} next */
  shouldComponentUpdate(next) {
    return next.shown !== this.props.shown;
  }

  render() {
    const { id, shown: { line, age: ago } } = this.props;
    const state = look(line);
    return html`
      <a href="/systems/${id}" title=${line.reason}>
        <span class="top"><${Shape} state=${state} size=${14} /><b class="state">${WORDS[state]}</b><span class="age" title="Age of the last event">${ago}</span></span>
        <strong>${line.name}</strong>
        <span class="reason">${line.reason}</span>
        <span class="figures">
          <span><b>${rate(line.rps)}</b><small>rate</small></span>
          <span><b>${percent(line.error_rate)}</b><small>errors</small></span>
          <span><b>${duration(line.p95_latency)}</b><small>p95</small></span>
          <svg class="spark" viewBox="0 0 100 28" preserveAspectRatio="none" aria-hidden="true"><rect x="-3" y="-1" width="106" height="30" /><path d=${sparks.of(id)} /></svg>
        </span>
      </a>
    `;
  }
}

/** What there is to say of a system now. @param {number} id @returns {Shown | undefined} */
function shown(id) {
  const line = known.lines.get(id);
  return line && { line, age: lastSeen(line), curve: sparks.version(id) };
}

/** Age of the last event, by the server's clock. @param {Line} line */
function lastSeen(line) {
  if (!line.last_event_at) return "";
  return age(known.asOf + (Date.now() - known.heardAt) - Date.parse(line.last_event_at));
}
