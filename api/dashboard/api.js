// @ts-check
// The way to the API: the key, one JSON answer, and what went wrong with it.

const KEY = "lso.key";

/** What the API said no with, or that it could not be asked. */
export class ApiError extends Error {
  /** @param {number} status 0 where there was no answer @param {string} detail @param {number} [retryMs] */
  constructor(status, detail, retryMs = 0) {
    super(detail);
    this.status = status;
    this.retryMs = retryMs;
  }
}

/** @type {Set<() => void>} */
const waiting = new Set();
let refused = false;

/** The key of this tab, "" for none: it lives as long as the tab does. */
export const key = () => sessionStorage.getItem(KEY) ?? "";

/** Whether the server wants a key, or another one. */
export const keyRefused = () => refused;

/** @param {string} value "" forgets it */
export function setKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
  refused = false;
  tell();
}

/** Be told when a key is set or refused. @param {() => void} listener */
export function onKey(listener) {
  waiting.add(listener);
  return () => void waiting.delete(listener);
}

const tell = () => waiting.forEach((listener) => listener());

/**
 * Ask; throws ApiError.
 * @param {string} path @param {{accept?: string, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 */
export async function ask(path, options = {}) {
  const shown = key();
  const headers = { Accept: options.accept ?? "application/json", ...options.headers, ...(shown && { Authorization: `Bearer ${shown}` }) };
  /** @type {Response} */
  let answer;
  try {
    answer = await fetch(path, { headers, signal: options.signal, cache: "no-store" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, "LSO cannot be reached");
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  if ((answer.status === 401 || answer.status === 403) && shown === key() && !refused) {
    refused = true;
    tell();
  }
  throw new ApiError(answer.status, problem.detail ?? `HTTP ${answer.status}`, 1000 * Number(answer.headers.get("retry-after") ?? 0));
}

/** One JSON answer; throws ApiError. @param {string} path @param {AbortSignal} [signal] @returns {Promise<any>} */
export async function get(path, signal) {
  return (await ask(path, { signal })).json();
}

/** A path with a query; what is empty is left out. @param {string} path @param {Record<string, unknown>} query */
export function withQuery(path, query) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") parts.set(name, String(value));
  }
  const text = parts.toString();
  return text ? `${path}?${text}` : path;
}
