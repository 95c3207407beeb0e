// Enhances pages that work without it: live regions.
//
// A live region is an element with data-live, the address of its own markup. It is fetched again and again, quickly
// while something in it is [data-moving], and patched in place: typed text, focus and opened details stay.
"use strict";

const QUICK = 1500, CALM = 5000, SLOWEST = 60000, APART = 800, LONGEST_APART = 5000; // milliseconds
const SHARE = 150; // times what an answer took the server, before it is asked again
const offline = document.getElementById("offline");

/** Make `from` equal to `to`, changing only what differs. Elements with an id are matched by it. */
function patch(from, to) {
  if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName || from.id !== to.id) {
    from.replaceWith(to);
    return;
  }
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  for (const { name } of [...from.attributes]) {
    // Whether details are open is the reader's business.
    if (!to.hasAttribute(name) && !(name === "open" && from.nodeName === "DETAILS")) from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  // What is typed or chosen belongs to the person.
  if (!["TEXTAREA", "SELECT", "NOSCRIPT"].includes(from.nodeName)) patchChildren(from, to);
}

function patchChildren(from, to) {
  const wanted = [...to.childNodes];
  const mine = new Map([...from.children].filter((e) => e.id).map((e) => [e.id, e]));
  const kept = new Set(wanted.map((node) => mine.get(node.id)));
  const alike = (a, b) => !a.id && !b.id && a.nodeName === b.nodeName;
  let at = from.firstChild;
  const drop = () => { const next = at.nextSibling; at.remove(); at = next; };

  wanted.forEach((node, index) => {
    const same = node.id && mine.get(node.id);
    // What is not wanted any more goes first: to move an element would take the focus from it.
    const later = () => at.nodeType === Node.ELEMENT_NODE && wanted.slice(index).some((w) => alike(w, at));
    const gone = () => !kept.has(at) && (same ? at !== same : !alike(at, node) && !(later() || node.nodeType === Node.TEXT_NODE));
    while (at && gone()) drop();
    if (same) {
      if (same === at) at = at.nextSibling;
      else from.insertBefore(same, at);
      patch(same, node);
    } else if (at && alike(at, node)) {
      const next = at.nextSibling;
      patch(at, node);
      at = next;
    } else {
      from.insertBefore(node, at);
    }
  });
  while (at) drop();
}

function say(text) {
  if (offline.textContent !== text) offline.textContent = text;
  offline.hidden = !text;
}

const regions = []; // each with its topics, for live.js
let streaming = false; // while live.js is told what changes, nobody looks for it

/** Keep one live region up to date while the page is visible. */
function follow(region) {
  const topics = (region.dataset.topic || "").split(" ").filter(Boolean);
  let tag = "", failures = 0, timer = 0, busy = false, again = false, last = 0, apart = APART;

  async function look() {
    clearTimeout(timer);
    if (!region.dataset.live) return;
    if (busy) { again = true; return; }
    busy = true;
    again = false;
    last = Date.now();
    try {
      const answer = await fetch(region.dataset.live, {
        headers: tag ? { "X-Fragment": "1", "If-None-Match": tag } : { "X-Fragment": "1" },
        signal: AbortSignal.timeout(15000),
      });
      const took = /cpu;dur=([0-9.]+)/.exec(answer.headers.get("Server-Timing"))?.[1] ?? 0;
      apart = Math.min(LONGEST_APART, Math.max(APART, SHARE * took));
      if (answer.status === 401 || answer.status === 403 || answer.status === 404) {
        region.removeAttribute("data-live");
        say(answer.status === 401 ? offline.dataset.signedOut : offline.dataset.gone);
        return;
      }
      if (answer.status !== 304) {
        if (!answer.ok) throw new Error(answer.status);
        // With its body said: a noscript that comes first would be taken for the head's, and what is in it shown.
        const fresh = new DOMParser().parseFromString(`<body>${await answer.text()}`, "text/html");
        patchChildren(region, fresh.body);
      }
      tag = answer.headers.get("ETag") || "";
      failures = 0;
      region.classList.remove("is-stale");
      say("");
    } catch {
      failures += 1;
      if (failures > 1) {
        region.classList.add("is-stale");
        say(offline.dataset.silent);
      }
    } finally {
      busy = false;
      if (again) soon();
      else next();
    }
  }

  /** Look now, or a moment after the last time. */
  function soon() {
    clearTimeout(timer);
    if (document.hidden || !region.dataset.live) return;
    timer = setTimeout(look, Math.max(0, last + apart - Date.now()));
  }

  /** Look again after a while, unless the stream tells when. */
  function next() {
    clearTimeout(timer);
    if (document.hidden || !region.dataset.live || (streaming && topics.length && !failures)) return;
    const pace = region.querySelector("[data-moving]") ? QUICK : CALM;
    timer = setTimeout(look, Math.max(apart, Math.min(SLOWEST, pace * 2 ** failures) * (0.8 + 0.4 * Math.random())));
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden && !busy) look();
  });
  regions.push({ topics, soon, next });
  next();
}

document.querySelectorAll("[data-live]").forEach(follow);
