// Small conveniences of every page, which works without them: copy buttons, times that stay current, Escape, no double
// submits. What is fetched while a page is open is app.js's.
"use strict";

document.documentElement.classList.add("js");

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    // No clipboard without https: leave it selected, and try the old way.
    getSelection().selectAllChildren(source);
    if (!document.execCommand("copy")) return;
  }
  const label = button.textContent;
  if (label === button.dataset.done) return;
  button.textContent = button.dataset.done;
  setTimeout(() => { button.textContent = label; }, 2000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
});

/** A moment relative to now, as webadmin/display.py says it; null from a day on, where the page's own words stay true. */
function ago(moment, words) {
  const passed = Math.trunc((Date.now() - moment) / 1000), distance = Math.abs(passed);
  if (distance >= 86400) return null;
  if (distance < 60) return passed >= 0 ? words.now : words.soon;
  const [ahead, behind, unit] = distance < 3600 ? [words.inMinutes, words.minutesAgo, 60] : [words.inHours, words.hoursAgo, 3600];
  return (passed > 0 ? behind : ahead).replace("%(num)s", Math.trunc(distance / unit));
}

function tick() {
  const words = document.getElementById("words").dataset;
  for (const time of document.querySelectorAll("time[datetime]")) {
    const text = ago(Date.parse(time.dateTime), words);
    if (text && time.textContent !== text) time.textContent = text;
  }
}

let ticking = 0;
function keepTime() {
  clearInterval(ticking);
  if (document.hidden) return;
  tick();
  ticking = setInterval(tick, 15000);
}
if (document.getElementById("words")) {
  document.addEventListener("visibilitychange", keepTime);
  ticking = setInterval(tick, 15000);
}

// Escape closes what was opened last of menus and of forms that unfold, and gives the focus back to what opened it.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented) return;
  const open = event.target.closest?.("details.menu[open], details.reject[open], details.closes[open]")
    ?? (event.target.closest?.(".side") ? document.querySelector("details.menu[open]") : null);
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});

document.addEventListener("submit", (event) => {
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "1";
});

// Back from the next page by the browser's cache: the forms may be sent again.
addEventListener("pageshow", () => {
  document.querySelectorAll("form[data-sent]").forEach((form) => form.removeAttribute("data-sent"));
});
