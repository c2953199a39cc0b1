// @ts-check
// Which view an address means.

import { html } from "htm/preact";
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Fleet } from "./fleet.js";
import { KeyGate, Notice } from "./parts.js";
import { navigate, onNavigate } from "./route.js";

const SYSTEM = /^\/systems\/(\d+)$/;

function App() {
  const [address, setAddress] = useState(location.pathname + location.search);
  useEffect(() => onNavigate(() => setAddress(location.pathname + location.search)), []);
  const url = new URL(address, location.origin);
  const system = SYSTEM.exec(url.pathname);
  return html`
    <a class="skip" href="#main">Skip to the content</a>
    ${system ? html`<${Later} key=${system[1]} id=${Number(system[1])} query=${url.searchParams} />` : html`<${Fleet} query=${url.searchParams} />`}
    <${KeyGate} />
  `;
}

/** The system's view, whose charts are fetched only where somebody wants them. @param {{id: number, query: URLSearchParams}} props */
function Later({ id, query }) {
  const [view, setView] = useState(/** @type {any} */ (null));
  useEffect(() => {
    import("./system.js").then(
      (module) => setView(() => module.SystemView),
      () => setView(() => () => html`<main id="main"><${Notice} title="A part of this page could not be fetched" state="UNKNOWN"><p>Reload it.</p><//></main>`),
    );
  }, []);
  return view ? html`<${view} id=${id} query=${query} />` : html`<main id="main" class="page" aria-busy="true"></main>`;
}

document.addEventListener("click", (event) => {
  const link = /** @type {HTMLElement} */ (event.target).closest?.("a");
  if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const url = new URL(link.href);
  if (link.target || url.origin !== location.origin || url.hash || !(url.pathname === "/" || SYSTEM.test(url.pathname))) return;
  event.preventDefault();
  navigate(url.pathname + url.search);
});

render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
