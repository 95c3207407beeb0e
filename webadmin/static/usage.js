// Draws what a workspace used, with uPlot, from the figures that the page's table has too.
//
// [data-usage] is the address of the figures as JSON, each [data-series] in it a place for one plot. They are fetched again
// each minute while the page is visible; the server has one new figure in that time.
"use strict";

(() => {
  const EVERY = 60000; // milliseconds
  const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

  /** Bytes as workspaces/names.py says them. */
  function amount(count) {
    let unit = 0;
    for (; count >= 1024 && unit < UNITS.length - 1; unit += 1) count /= 1024;
    return `${unit ? count.toFixed(1) : Math.round(count)} ${UNITS[unit]}`;
  }

  const SAY = { bytes: amount, cores: (count) => count.toFixed(2), count: String };

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  }

  /** Ticks of bytes at round numbers of a unit. */
  function ticks(top) {
    const unit = 1024 ** Math.max(0, Math.min(UNITS.length - 1, Math.floor(Math.log2(Math.max(top, 1)) / 10)));
    const most = top / unit;
    const step = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500].find((size) => most / size <= 4) ?? 1000;
    const found = [];
    for (let at = 0; at <= most; at += step) found.push(at * unit);
    return found;
  }

  /** From when to when: from its first figure on, so that the first minutes of a workspace are seen too. */
  function reach(data) {
    const from = data.at[0], to = data.at.at(-1), first = data.at[data.cpus.findIndex((value) => value !== null)] ?? from;
    return [Math.max(from, Math.min(first, to - (to - from) / 24)), to];
  }

  function options(place, data, readout) {
    const { series, unit, beside } = place.dataset, limit = data.limits[series] ?? 0;
    const bytes = unit === "bytes", say = SAY[unit], lang = document.documentElement.lang;
    const clock = data.range === "day" ? { hour: "2-digit", minute: "2-digit", hour12: false } : { day: "numeric", month: "short" };
    const rest = readout.textContent;
    const axis = { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    return {
      width: place.clientWidth, height: place.clientHeight,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: { y: { range: (_, low, high) => [0, Math.max(limit, (bytes ? Math.max(high, 1024) : high || 1) * (limit ? 1 : 1.15))] } },
      axes: [
        { ...axis, space: 64, size: 24, values: (_, values) => values.map((at) => new Date(at * 1000).toLocaleString(lang, clock)) },
        { ...axis, size: bytes ? 64 : 40, space: 24, values: (_, values) => values.map((v) => (bytes ? amount(v).replace(".0 ", " ") : String(v))), ...(bytes ? { splits: (u) => ticks(u.scales.y.max) } : {}) },
      ],
      series: [
        {},
        { stroke: colour("accent"), width: 1.5, fill: colour("accent-soft"), points: { show: data.at.length < 3 } },
        ...(beside ? [{ stroke: colour("edge"), width: 1, points: { show: false } }] : []),
      ],
      hooks: {
        setCursor: [(plot) => {
          const at = plot.cursor.idx, value = at === null || at === undefined ? null : plot.data[1][at];
          if (value === null || value === undefined) { readout.textContent = rest; return; }
          const when = new Date(data.at[at] * 1000).toLocaleString(lang, { dateStyle: "medium", timeStyle: "short" });
          readout.textContent = `${when}: ${[value, ...(beside ? [plot.data[2][at]] : [])].map(say).join(" / ")}`;
        }],
      },
    };
  }

  /** Show what reach says; the other scale follows. */
  function turn(plot, data) {
    const [min, max] = reach(data);
    plot.setScale("x", { min, max });
  }

  function columns(place, data) {
    return [data.at, data[place.dataset.series], ...(place.dataset.beside ? [data[place.dataset.beside]] : [])];
  }

  function follow(region) {
    const places = [...region.querySelectorAll("[data-series]")];
    const plots = new Map();
    let data = null, timer = 0;

    function draw() {
      for (const place of places) {
        plots.get(place)?.destroy();
        const readout = place.closest("figure").querySelector("[data-readout]");
        plots.set(place, new uPlot(options(place, data, readout), columns(place, data), place));
        turn(plots.get(place), data);
      }
    }

    function fail() {
      if (data) return; // what is drawn stays; it is a minute older
      for (const place of places.slice(1)) place.hidden = true;
      places[0].classList.add("is-broken");
      places[0].removeAttribute("role");
      places[0].textContent = region.dataset.broken;
    }

    async function look() {
      clearTimeout(timer);
      try {
        const answer = await fetch(region.dataset.usage, { headers: { Accept: "application/json", "X-Fragment": "1" }, signal: AbortSignal.timeout(15000) });
        if (!answer.ok || typeof uPlot === "undefined") throw new Error(answer.status);
        const fresh = await answer.json();
        const first = !data;
        data = fresh;
        if (first) draw();
        else for (const [place, plot] of plots) { plot.setData(columns(place, data), false); turn(plot, data); }
      } catch {
        fail();
      }
      if (!document.hidden) timer = setTimeout(look, EVERY);
    }

    document.addEventListener("visibilitychange", () => { clearTimeout(timer); if (!document.hidden) look(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (data) draw(); });
    new ResizeObserver(() => {
      for (const [place, plot] of plots) {
        if (place.clientWidth && place.clientWidth !== plot.width) plot.setSize({ width: place.clientWidth, height: place.clientHeight });
      }
    }).observe(region);
    look();
  }

  document.querySelectorAll("[data-usage]").forEach(follow);
})();
