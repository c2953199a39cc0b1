// @ts-check
// Numbers with units and times as people read them. Pure.

/** @typedef {import("./types.d.ts").Health} Health */

/** @type {Health[]} */
export const STATES = ["UNHEALTHY", "DEGRADED", "UNKNOWN", "OK"];

const NONE = "–";

/** @param {number | null | undefined} share */
export function percent(share) {
  if (share == null) return NONE;
  if (share === 0) return "0 %";
  const value = share * 100;
  return `${value < 0.1 ? "<0.1" : value.toFixed(value < 10 ? 1 : 0)} %`;
}

/** @param {number | null | undefined} ms */
export function duration(ms) {
  if (ms == null) return NONE;
  if (ms === 0) return "0 ms";
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(2)} s`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.round(ms / 1000);
  if (s < 3600) return `${Math.floor(s / 60)}m ${pad(s % 60)}s`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h ${pad(Math.floor((s % 3600) / 60))}m`;
  return `${Math.floor(s / 86_400)}d ${pad(Math.floor((s % 86_400) / 3600))}h`;
}

/** A length of time, coarse: its two largest units. @param {number} ms */
export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${pad(s % 60)} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${pad(Math.floor((s % 3600) / 60))} min`;
  return `${Math.floor(s / 86_400)} d ${pad(Math.floor((s % 86_400) / 3600))} h`;
}

/** A length of time in one unit, for tight places. @param {number} ms */
export function age(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} d`;
}

/** @param {number | null | undefined} value */
export function rate(value) {
  if (value == null) return NONE;
  if (value === 0) return "0/s";
  if (value < 0.01) return `${(value * 60).toFixed(value * 60 < 0.1 ? 2 : 1)}/min`;
  if (value < 10) return `${value.toFixed(value < 1 ? 2 : 1)}/s`;
  return `${count(Math.round(value))}/s`;
}

/** @param {number | null | undefined} value */
export function count(value) {
  if (value == null) return NONE;
  if (value < 10_000) return String(value).replace(/\B(?=(\d{3})+$)/g, "\u2009");
  if (value < 1_000_000) return `${(value / 1000).toFixed(value < 100_000 ? 1 : 0)} k`;
  return `${(value / 1_000_000).toFixed(value < 10_000_000 ? 2 : 1)} M`;
}

/** @param {number} bytes */
export function size(bytes) {
  return bytes < 1024 ? `${bytes} B` : bytes < 1048576 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1048576).toFixed(1)} MiB`;
}

/** @param {number} value */
const pad = (value) => String(value).padStart(2, "0");

/** Local date and time. @param {number} ms @param {{seconds?: boolean, day?: boolean | "auto", ms?: boolean}} [options] */
export function local(ms, options = {}) {
  const time = new Date(ms);
  const withDay = options.day === "auto" || options.day === undefined ? !sameDay(time, new Date()) : options.day;
  const clock = `${pad(time.getHours())}:${pad(time.getMinutes())}`;
  const fraction = options.ms ? `.${String(time.getMilliseconds()).padStart(3, "0")}` : "";
  const full = options.seconds === false ? clock : `${clock}:${pad(time.getSeconds())}${fraction}`;
  return withDay ? `${time.getFullYear()}-${pad(time.getMonth() + 1)}-${pad(time.getDate())} ${full}` : full;
}

/** The same moment in UTC, for who has to compare. @param {number} ms */
export function utc(ms) {
  return new Date(ms).toISOString().replace("T", " ").replace("Z", " UTC");
}

/** @param {Date} one @param {Date} other */
function sameDay(one, other) {
  return one.getFullYear() === other.getFullYear() && one.getMonth() === other.getMonth() && one.getDate() === other.getDate();
}
