// @ts-check
// Stretches of time: named ones that end now, and free ones. Pure but for the clock that is passed in.

/** @typedef {import("./types.d.ts").Range} Range */

const MINUTE = 60_000, HOUR = 3_600_000, DAY = 86_400_000;

/** @type {[string, number, string][]} name in the address, length, words */
export const NAMED = [
  ["15m", 15 * MINUTE, "15 minutes"],
  ["1h", HOUR, "1 hour"],
  ["6h", 6 * HOUR, "6 hours"],
  ["24h", DAY, "24 hours"],
  ["7d", 7 * DAY, "7 days"],
  ["30d", 30 * DAY, "30 days"],
];
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440].map((minutes) => minutes * MINUTE);
const POINTS = 240;
const BY_THE_MINUTE = 30 * DAY; // further back whole hours are told

/** @param {URLSearchParams} query @param {number} now @returns {Range} */
export function readRange(query, now) {
  const from = Date.parse(query.get("from") ?? ""), to = Date.parse(query.get("to") ?? "");
  if (from < to) return { from, to, live: false, name: "" };
  const [name, length] = NAMED.find(([one]) => one === query.get("range")) ?? NAMED[1];
  return { from: now - length, to: now, live: true, name };
}

/**
 * The same in whole steps, as history is told.
 * @param {Range} range @param {number} now
 */
export function grid(range, now) {
  const least = range.from < now - BY_THE_MINUTE ? HOUR : MINUTE;
  const step = STEPS.find((one) => one >= least && (range.to - range.from) / one <= POINTS) ?? STEPS[STEPS.length - 1];
  return { from: Math.floor(range.from / step) * step, to: Math.ceil(range.to / step) * step, step };
}

/** @param {number} ms */
export const iso = (ms) => new Date(ms).toISOString().replace(".000Z", "Z");
