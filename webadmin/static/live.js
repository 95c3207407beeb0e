// One event stream tells the page which of its regions to fetch again, by their data-topic (webadmin/following.py).
// While there is none, app.js looks by itself now and then. Read with fetch, since EventSource hides why it failed.
"use strict";

const SILENCE = 45000, HIDDEN = 20000, REFUSED = 300000, LONGEST = 60000; // milliseconds

/** Follow the topics of `regions` (app.js) for as long as the page is looked at. */
function listen() {
  const url = offline?.dataset.stream;
  const topics = new Set(regions.flatMap((region) => region.topics));
  if (!url || !topics.size) return;
  let since = offline.dataset.version, control = null, failures = 0, timer = 0, watchdog = 0;

  function later(wait) {
    clearTimeout(timer);
    timer = setTimeout(connect, wait * (0.5 + Math.random()));
  }

  function close() {
    clearTimeout(timer);
    clearTimeout(watchdog);
    control?.abort();
    control = null;
    streaming = false;
  }

  function heard() {
    clearTimeout(watchdog);
    // A computer that slept, or a network that went away without a word.
    watchdog = setTimeout(() => control?.abort(), SILENCE);
  }

  function take(text) {
    const said = Object.fromEntries(text.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
    if (said.event === "hello") {
      since = said.data;
      failures = 0;
    }
    if (said.event === "over") regions.forEach((region) => region.soon()); // they are told why
    if (said.event === "changed") {
      regions.filter((region) => region.topics.includes(said.data)).forEach((region) => region.soon());
    }
  }

  async function connect() {
    close();
    const mine = control = new AbortController();
    let wait = 0;
    try {
      heard();
      const query = new URLSearchParams([...[...topics].map((topic) => ["topic", topic]), ["since", since]]);
      const answer = await fetch(`${url}?${query}`, { headers: { "X-Fragment": "1" }, signal: mine.signal, cache: "no-store" });
      if (!answer.ok) {
        if (answer.status < 500) wait = REFUSED;
        throw new Error(answer.status);
      }
      streaming = true;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let buffer = "";;) {
        const { value, done } = await reader.read();
        if (done) break;
        heard();
        const parts = (buffer + value).split("\n\n");
        buffer = parts.pop();
        parts.forEach(take);
      }
    } catch {
      // Told by what follows: regions look by themselves until there is a stream again.
    }
    if (mine !== control) return; // closed by the page itself
    close();
    failures += 1;
    regions.forEach((region) => region.next());
    later(wait || Math.min(LONGEST, 500 * 2 ** failures));
  }

  let hiding = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    // A browser has few connections to one server: those of tabs that nobody looks at are missed elsewhere.
    if (document.hidden) hiding = setTimeout(close, HIDDEN);
    else if (!streaming) connect();
  });
  addEventListener("online", connect);
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
  if (!document.hidden) connect();
}

listen();
