// The terminal of a workspace: xterm.js and the websocket behind it (webadmin/terminal/relay.py says what goes over it).
"use strict";

(() => {
  const place = document.getElementById("terminal");
  if (!place || !window.Terminal) return;
  const state = document.getElementById("terminal-state"), again = document.getElementById("terminal-again");
  const reader = document.getElementById("terminal-reader");
  const PIECE = 16384, WINDOW = 65536; // bytes; the server ends a page that sends more than it acknowledged
  const encoder = new TextEncoder();

  // The content security policy takes style elements with this page's nonce, and no style attributes. xterm.js knows
  // neither: its elements get the nonce, and its attributes become properties, which are allowed.
  const make = document.createElement.bind(document);
  document.createElement = (name, options) => {
    const element = make(name, options);
    if (name === "style") element.nonce = place.dataset.nonce;
    if (name === "span") {
      element.setAttribute = (key, value) => {
        if (key === "style") element.style.cssText = value;
        else Element.prototype.setAttribute.call(element, key, value);
      };
    }
    return element;
  };

  const term = new Terminal({
    fontFamily: "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace",
    fontSize: 14,
    scrollback: 5000,
    minimumContrastRatio: 4.5,
    theme: { background: "#16181d", foreground: "#e6e6e6", cursor: "#e6e6e6", selectionBackground: "#44598a" },
  });
  const fit = new FitAddon.FitAddon();
  term.loadAddon(fit);
  term.open(place);
  term.textarea.setAttribute("aria-describedby", "terminal-help");

  let socket = null, queue = [], sent = 0, said = "";

  function say(word) {
    said = word;
    state.textContent = state.dataset[word] ?? "";
    state.className = ["opening", "open"].includes(word) ? "quiet" : "bad";
    again.hidden = ["opening", "open"].includes(word);
  }

  /** Send what was typed, as far as the server takes it. */
  function pump() {
    while (socket?.readyState === WebSocket.OPEN && queue.length && sent < WINDOW) {
      const bytes = queue[0].subarray(0, Math.min(PIECE, WINDOW - sent));
      if (bytes.length === queue[0].length) queue.shift();
      else queue[0] = queue[0].subarray(bytes.length);
      sent += bytes.length;
      socket.send(bytes);
    }
  }

  function type(bytes) {
    if (said !== "open") return;
    queue.push(bytes);
    pump();
  }

  function tell(message) {
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  }

  function take(own, data) {
    if (data instanceof ArrayBuffer) {
      // Acknowledged when it is shown: so the server sends no more than this page can show.
      term.write(new Uint8Array(data), () => { if (own === socket) tell({ ack: data.byteLength }); });
      if (said === "opening") say("open");
      return;
    }
    const message = JSON.parse(data);
    if (message.ack) {
      sent -= message.ack;
      pump();
    } else if (message.error) {
      say(message.error);
    } else if ("exit" in message) {
      say("exit");
    }
  }

  function connect() {
    if (socket && socket.readyState < WebSocket.CLOSING) return;
    queue = [];
    sent = 0;
    say("opening");
    const url = new URL(place.dataset.socket, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const own = socket = new WebSocket(url);
    own.binaryType = "arraybuffer";
    own.onopen = () => {
      tell({ open: [term.cols, term.rows] }); // before all else
      fit.fit(); // which tells of another size
      term.focus();
    };
    own.onmessage = (event) => { if (own === socket) take(own, event.data); };
    own.onclose = () => {
      if (own !== socket) return;
      if (["opening", "open"].includes(said)) say(said === "opening" ? "gateway" : "lost");
      term.write("\r\n");
    };
  }

  term.onData((text) => type(encoder.encode(text)));
  term.onBinary((text) => type(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
  term.onResize(({ cols, rows }) => tell({ resize: [cols, rows] }));
  term.attachCustomKeyEventHandler((event) => {
    // The keyboard's way out: the terminal takes every other key, Tab as well.
    if (event.key === "F6" && event.shiftKey) {
      if (event.type === "keydown") (again.hidden ? reader : again).focus();
      event.preventDefault();
      return false;
    }
    if (event.ctrlKey && event.shiftKey && event.code === "KeyC" && term.hasSelection()) {
      if (event.type === "keydown") navigator.clipboard?.writeText(term.getSelection());
      event.preventDefault();
      return false;
    }
    // The browser pastes.
    return !(event.ctrlKey && event.shiftKey && event.code === "KeyV");
  });
  again.addEventListener("click", connect);
  reader.addEventListener("click", () => {
    term.options.screenReaderMode = !term.options.screenReaderMode;
    reader.setAttribute("aria-pressed", term.options.screenReaderMode);
  });

  let timer = 0;
  new ResizeObserver(() => {
    clearTimeout(timer);
    timer = setTimeout(() => fit.fit(), 100);
  }).observe(place);
  window.terminal = term;
  connect();
})();
