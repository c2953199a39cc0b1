// @ts-check
// Addresses: every view has one.

/** @type {Set<() => void>} */
const listeners = new Set();

/** @param {() => void} listener */
export function onNavigate(listener) {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/** @param {string} address @param {{replace?: boolean}} [options] replace: no step back to where one was */
export function navigate(address, { replace = false } = {}) {
  const moved = new URL(address, location.origin).pathname !== location.pathname;
  history[replace ? "replaceState" : "pushState"](null, "", address);
  listeners.forEach((listener) => listener());
  if (moved) scrollTo(0, 0);
}

/** Change parts of the query; "" takes a part out. @param {Record<string, string>} parts @param {{replace?: boolean}} [options] */
export function turn(parts, options) {
  navigate(turned(parts), options);
}

/** The address that `turn` goes to. @param {Record<string, string>} parts */
export function turned(parts) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(parts)) value === "" ? query.delete(name) : query.set(name, value);
  const text = query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
  return location.pathname + (text && `?${text}`);
}

addEventListener("popstate", () => listeners.forEach((listener) => listener()));
