// @ts-check
// All systems, worst first.

import { html } from "htm/preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { key } from "./api.js";
import { STATES, count, span } from "./format.js";
import { Bone, Notice, Paste, Pulse, Shape, Trouble, useLive } from "./parts.js";
import { turn } from "./route.js";
import { HEIGHT, Tile, known, refresh, sparks } from "./tile.js";

/** @typedef {import("./types.d.ts").Line} Line */
/** @typedef {{kind: "tile", key: string, position: number, line: Line, x: number, y: number} | {kind: "head", key: string, tag: string, lines: Line[], y: number}} Placed */

const TILE = { least: 268, height: HEIGHT, gap: 10, head: 46 };
const MARGIN = 600; // pixels above and below the window that are rendered as well

/** @param {{query: URLSearchParams}} props */
export function Fleet({ query }) {
  const live = useLive({}, known);
  useEffect(() => {
    sparks.take(live);
    refresh();
  }, [live.version]);
  useEffect(() => {
    const timer = setInterval(refresh, 1000);
    return () => clearInterval(timer);
  }, []);
  useSign(live);
  const wanted = useMemo(() => read(query), [query.toString()]);
  const lines = useMemo(() => pick(live.lines, wanted), [live.arranged, wanted, wanted.text ? live.version : 0]);
  const tags = useMemo(() => tagsOf(live.lines), [live.arranged]);
  // The same element as before is not looked into: tiles follow by themselves.
  const grid = useMemo(() => html`<${Grid} lines=${lines} grouped=${wanted.grouped} />`, [lines, wanted.grouped]);
  const old = live.trouble !== "";
  return html`
    <header class="bar">
      <a class="brand" href="/" aria-label="LSO, all systems"><b>LSO</b><span>Living Systems Observatory</span></a>
      <${Pulse} known=${live} />
      <a class="quiet" href="/docs">API</a>
    </header>
    <main id="main" class=${old ? "page fleet old" : "page fleet"} tabindex="-1">
      <${Trouble} known=${live} />
      <${Behind} live=${live} />
      <${Headline} live=${live} wanted=${wanted} />
      ${live.counts !== null && live.lines.size === 0
        ? html`<${First} />`
        : html`
            <${Tools} wanted=${wanted} tags=${tags} shown=${lines.length} all=${live.lines.size} />
            ${live.counts === null ? html`<${Bones} />` : grid}
          `}
    </main>
  `;
}

/** @typedef {{text: string, states: string[], tag: string, grouped: boolean}} Wanted */

/** @param {URLSearchParams} query @returns {Wanted} */
function read(query) {
  const states = (query.get("state") ?? "").split(",").filter((one) => STATES.includes(/** @type {any} */ (one)));
  return { text: query.get("q") ?? "", states, tag: query.get("tag") ?? "", grouped: query.get("group") === "tag" };
}

/** The lines that are wanted, worst first. @param {Map<number, Line>} lines @param {Wanted} wanted */
function pick(lines, { text, states, tag }) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [];
  for (const line of lines.values()) {
    if (states.length && !states.includes(line.health)) continue;
    if (tag && !line.tags.includes(tag)) continue;
    if (words.length) {
      const said = `${line.name} ${line.reason} ${line.tags.join(" ")}`.toLowerCase();
      if (!words.every((word) => said.includes(word))) continue;
    }
    found.push(line);
  }
  return found.sort(worstFirst);
}

/** @param {Line} a @param {Line} b */
const worstFirst = (a, b) => STATES.indexOf(a.health) - STATES.indexOf(b.health) || (a.name < b.name ? -1 : a.name > b.name ? 1 : a.system_id - b.system_id);

/** @param {Map<number, Line>} lines */
function tagsOf(lines) {
  const found = new Set();
  for (const line of lines.values()) line.tags.forEach((tag) => found.add(tag));
  return [...found].sort();
}

/** The tab says how it stands too. @param {import("./live.js").Known} live */
function useSign(live) {
  const worst = live.trouble ? "UNKNOWN" : (live.worst ?? "");
  const bad = live.counts && worst && worst !== "OK" ? `${live.counts[/** @type {import("./types.d.ts").Health} */ (worst)]} ${worst} · ` : "";
  useEffect(() => {
    document.title = `${live.trouble ? "no connection · " : bad}LSO`;
    sign(worst);
  }, [bad, worst, live.trouble]);
}

/** @type {Record<string, string>} */
const SIGNS = {
  UNHEALTHY: '<path fill="#c8281e" d="M5 1h6l4 4v6l-4 4H5l-4-4V5z"/>',
  DEGRADED: '<path fill="#e8a013" d="M8 1 15.5 14.5H.5z"/>',
  UNKNOWN: '<circle fill="none" stroke="#7d8796" stroke-width="2.5" cx="8" cy="8" r="6"/>',
  OK: '<circle fill="#1f8a54" cx="8" cy="8" r="7"/>',
};

/** @param {string} state */
export function sign(state) {
  const drawn = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">${SIGNS[state] ?? SIGNS.UNKNOWN}</svg>`;
  document.getElementById("icon")?.setAttribute("href", `data:image/svg+xml,${encodeURIComponent(drawn)}`);
}

/** @param {{live: import("./live.js").Known}} props */
function Behind({ live }) {
  let behind = 0;
  for (const line of live.lines.values()) behind += line.observer_behind ? 1 : 0;
  if (!behind || live.trouble) return null;
  return html`
    <p class="banner s-BEHIND" role="status">
      <${Shape} state="BEHIND" /><span><b>LSO itself is ${span(live.behindS * 1000)} behind.</b> ${count(behind)} ${behind === 1 ? "system shows" : "systems show"} the figures that were computed last;
      this says nothing about how well ${behind === 1 ? "it is" : "they are"}.</span>
    </p>
  `;
}

/** One sentence that is understood at once, and the counts. @param {{live: import("./live.js").Known, wanted: Wanted}} props */
function Headline({ live, wanted }) {
  const { counts, worst } = live;
  const all = counts ? STATES.reduce((sum, state) => sum + counts[state], 0) : 0;
  /** @param {string} state */
  const toggle = (state) => {
    const states = wanted.states.includes(state) ? wanted.states.filter((one) => one !== state) : [...wanted.states, state];
    turn({ state: states.join(",") });
  };
  return html`
    <section class="headline" aria-label="The fleet">
      <h1 class=${worst ? `s-${worst}` : ""} aria-live="polite">
        ${counts === null ? html`<${Bone} width="9em" />` : html`${worst && html`<${Shape} state=${worst} size=${30} />`}<span>${said(worst, counts, all)}</span>`}
      </h1>
      <div class="counts" role="group" aria-label="Show only systems in a state">
        ${STATES.map(
          (state) => html`
            <button type="button" key=${state} class="count s-${state}" aria-pressed=${wanted.states.includes(state) ? "true" : "false"} disabled=${counts === null} onClick=${() => toggle(state)}>
              <${Shape} state=${state} size=${14} /><b>${counts ? count(counts[state]) : "–"}</b><span>${state}</span>
            </button>
          `,
        )}
      </div>
    </section>
  `;
}

/** @param {string | null} worst @param {import("./types.d.ts").Counts} counts @param {number} all */
function said(worst, counts, all) {
  if (worst === null || all === 0) return "No systems yet";
  const bad = counts[/** @type {import("./types.d.ts").Health} */ (worst)];
  if (worst === "OK") return all === 1 ? "The one system is well" : `All ${count(all)} systems are well`;
  return `${count(bad)} of ${count(all)} ${all === 1 ? "system" : "systems"} ${bad === 1 ? "is" : "are"} ${worst.toLowerCase()}`;
}

/** @param {{wanted: Wanted, tags: string[], shown: number, all: number}} props */
function Tools({ wanted, tags, shown, all }) {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => {
    /** @param {KeyboardEvent} event */
    const press = (event) => {
      const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(/** @type {HTMLElement} */ (event.target).tagName);
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        field.current?.focus();
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
  const narrowed = wanted.text || wanted.states.length || wanted.tag;
  return html`
    <div class="tools" role="search">
      <input ref=${field} type="search" placeholder="Search  ( / )" aria-label="Search names, reasons and tags" value=${wanted.text}
        onInput=${(/** @type {any} */ event) => turn({ q: event.target.value }, { replace: true })}
        onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.key === "Escape" && turn({ q: "" }, { replace: true })} />
      <select aria-label="Show only systems with a tag" value=${wanted.tag} onChange=${(/** @type {any} */ event) => turn({ tag: event.target.value })}>
        <option value="">all tags</option>
        ${wanted.tag && !tags.includes(wanted.tag) && html`<option value=${wanted.tag}>${wanted.tag}</option>`}
        ${tags.map((tag) => html`<option key=${tag} value=${tag}>${tag}</option>`)}
      </select>
      <label class="check"><input type="checkbox" checked=${wanted.grouped} onChange=${(/** @type {any} */ event) => turn({ group: event.target.checked ? "tag" : "" })} />group by tag</label>
      <output class="shown">${narrowed ? html`${count(shown)} of ${count(all)} ${" "}<button type="button" class="quiet" onClick=${() => turn({ q: "", state: "", tag: "" })}>show all</button>` : ""}</output>
    </div>
  `;
}

/**
 * Places tiles, and renders only those near the window.
 * @param {{lines: Line[], grouped: boolean}} props
 */
function Grid({ lines, grouped }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [width, setWidth] = useState(0);
  const [, scrolled] = useState(0);
  const [minute, setMinute] = useState(0);
  useLayoutEffect(() => {
    const watch = new ResizeObserver(() => setWidth(box.current?.clientWidth ?? 0));
    if (box.current) watch.observe(box.current);
    const move = () => scrolled(Math.round(scrollY / 200));
    addEventListener("scroll", move, { passive: true });
    const timer = setInterval(() => setMinute((before) => before + 1), 60_000);
    return () => {
      clearInterval(timer);
      watch.disconnect();
      removeEventListener("scroll", move);
    };
  }, []);
  const columns = Math.max(1, Math.floor((width + TILE.gap) / (TILE.least + TILE.gap)));
  const wide = Math.floor((width - (columns - 1) * TILE.gap) / columns); // whole pixels, or text is blurred
  const { placed, height } = useMemo(() => place(lines, grouped, columns, wide), [lines, grouped, columns, wide]);
  const top = box.current ? scrollY - box.current.offsetTop : 0;
  const near = width ? placed.filter(({ y }) => y > top - MARGIN && y < top + innerHeight + MARGIN) : [];
  useEffect(() => sparks.show(near.flatMap((one) => (one.kind === "tile" ? [one.line.system_id] : [])), refresh), [near.map(({ key: it }) => it).join(), minute]);
  return html`
    ${!lines.length && html`<${Notice} title="No system matches" state="UNKNOWN"><p>Nothing has this name, state and tag.</p><//>`}
    <div ref=${box} class="grid" role="list" aria-label="Systems, worst first" hidden=${!lines.length} style=${{ height: `${height}px` }} onKeyDown=${(/** @type {KeyboardEvent} */ event) => step(event, placed, columns)}>
      ${near.map((one) =>
        one.kind === "head"
          ? html`<${GroupHead} key=${one.key} tag=${one.tag} lines=${one.lines} y=${one.y} />`
          : html`<${Tile} key=${one.key} name=${one.key} id=${one.line.system_id} x=${one.x} y=${one.y} wide=${wide} position=${one.position} of=${lines.length} />`,
      )}
    </div>
  `;
}

/** @param {Line[]} lines @param {boolean} grouped @param {number} columns @param {number} wide @returns {{placed: Placed[], height: number}} */
function place(lines, grouped, columns, wide) {
  /** @type {Placed[]} */
  const placed = [];
  let y = 0;
  for (const [tag, some] of grouped ? groups(lines) : [["", lines]]) {
    if (grouped) {
      placed.push({ kind: "head", key: `head ${tag}`, tag: /** @type {string} */ (tag), lines: /** @type {Line[]} */ (some), y });
      y += TILE.head;
    }
    /** @type {Line[]} */ (some).forEach((line, at) =>
      placed.push({ kind: "tile", key: `${tag} ${line.system_id}`, position: at + 1, line, x: (at % columns) * (wide + TILE.gap), y: y + Math.floor(at / columns) * (TILE.height + TILE.gap) }),
    );
    y += Math.ceil(some.length / columns) * (TILE.height + TILE.gap);
  }
  return { placed, height: y };
}

/** Lines by tag, the group with the worst first; a line stands under each of its tags. @param {Line[]} lines @returns {[string, Line[]][]} */
function groups(lines) {
  /** @type {Map<string, Line[]>} */
  const found = new Map();
  for (const line of lines) {
    for (const tag of line.tags.length ? line.tags : [""]) {
      const some = found.get(tag);
      if (some) some.push(line);
      else found.set(tag, [line]);
    }
  }
  return [...found].sort(([a, ones], [b, others]) => STATES.indexOf(ones[0].health) - STATES.indexOf(others[0].health) || Number(a === "") - Number(b === "") || (a < b ? -1 : 1));
}

/** @param {{tag: string, lines: Line[], y: number}} props */
function GroupHead({ tag, lines, y }) {
  return html`
    <h2 class="group" style=${{ transform: `translateY(${y}px)` }}>
      ${tag || "no tag"}<small>${count(lines.length)}</small>
      ${STATES.map((state) => {
        const some = lines.filter((line) => line.health === state).length;
        return some > 0 && html`<span key=${state} class="s-${state}"><${Shape} state=${state} size=${11} />${count(some)}</span>`;
      })}
    </h2>
  `;
}

/** Moves the focus over the grid. @param {KeyboardEvent} event @param {Placed[]} placed @param {number} columns */
function step(event, placed, columns) {
  const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  const grid = /** @type {HTMLElement} */ (event.currentTarget);
  const focused = document.activeElement?.closest?.(".tile");
  if (!by || !focused) return;
  event.preventDefault();
  const tiles = placed.filter((one) => one.kind === "tile");
  const at = tiles.findIndex((one) => one.key === focused.getAttribute("data-key"));
  const next = tiles[Math.min(tiles.length - 1, Math.max(0, at + by))];
  const y = next.y + grid.offsetTop;
  if (y < scrollY + 60) scrollTo({ top: y - 60 });
  if (y + TILE.height > scrollY + innerHeight) scrollTo({ top: y + TILE.height - innerHeight + 20 });
  requestAnimationFrame(() => requestAnimationFrame(() => /** @type {HTMLElement | null} */ (grid.querySelector(`[data-key="${CSS.escape(next.key)}"] a`))?.focus({ preventScroll: true })));
}

/** The shape of what is to come, so that nothing jumps. */
function Bones() {
  return html`
    <div class="grid bones" aria-busy="true" aria-label="Loading">
      ${Array.from({ length: 8 }, (_, at) => html`<div key=${at} class="tile"><${Bone} width="7em" /><${Bone} width="12em" /><${Bone} width="100%" /></div>`)}
    </div>
  `;
}

/** What to do where there is nothing yet. */
function First() {
  const head = key() ? " -H 'authorization: Bearer $LSO_API_KEY'" : "";
  const shell = [
    `url=${location.origin}`,
    `id=$(curl -s $url/systems${head} -H 'content-type: application/json' -d '{"name": "my-pipeline"}' | grep -o '[0-9]*' | head -n 1)`,
    `curl -s $url/systems/$id/events${head} -H 'content-type: application/json' -d '{"events": [{"event_type": "success", "status": "ok", "latency_ms": 12}]}'`,
  ].join("\n");
  const python = [
    "from lso_core import client as lso",
    `lso.init("${location.origin}", system="my-pipeline"${key() ? ', api_key="…"' : ""})`,
    'with lso.run() as run, run.stage("extract"): pass  # your work',
  ].join("\n");
  return html`
    <section class="first">
      <p>Nothing reports to this LSO yet. Paste these three lines into a shell, and the first system appears here within a second:</p>
      <${Paste} text=${shell} label="Shell commands that register a system" />
      <p>Or from a pipeline in Python:</p>
      <${Paste} text=${python} label="Python lines that register a system" />
      <p>Believable systems in believable trouble, to look around: <code>lso demo --url ${location.origin}</code></p>
    </section>
  `;
}
