// Plays a recording, or shows a terminal that goes on, with asciinema-player (vendor/asciinema-player.js).
"use strict";

{
  const screen = document.getElementById("screen"), said = document.getElementById("screen-said");
  const { stream, recording, missing, leftOut, ended } = screen.dataset;
  if (window.AsciinemaPlayer === undefined) {
    said.textContent = missing;
  } else {
    const source = stream ? { driver: "eventsource", url: stream } : recording;
    const player = window.AsciinemaPlayer.create(source, screen, {
      autoPlay: true, fit: "width", controls: true, idleTimeLimit: stream ? undefined : 2, terminalFontFamily: "ui-monospace, 'DejaVu Sans Mono', monospace",
    });
    player.addEventListener("marker", () => { said.textContent = leftOut; });
    if (stream) player.addEventListener("ended", () => { said.textContent = ended; });
  }
}
