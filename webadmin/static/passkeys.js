// Asks the browser for a passkey when a form with data-passkey is sent, and sends its answer with the form.
//
// data-passkey is "create" or "get", data-options the address of what to ask with. The form's field "credential" gets
// the answer as JSON. Where there are no passkeys, the form goes.
"use strict";

(() => {
  if (window.workspacesPasskeys) return; // the page has several such forms
  window.workspacesPasskeys = true;
  const forms = document.querySelectorAll("form[data-passkey]");

  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

  /** The options as the browser wants them: what is bytes comes as base64url. */
  function prepared(options) {
    const each = (list) => (list || []).map((item) => ({ ...item, id: bytes(item.id) }));
    const found = { ...options, challenge: bytes(options.challenge) };
    if (options.user) found.user = { ...options.user, id: bytes(options.user.id) };
    if (options.excludeCredentials) found.excludeCredentials = each(options.excludeCredentials);
    if (options.allowCredentials) found.allowCredentials = each(options.allowCredentials);
    return found;
  }

  function answered(credential) {
    const response = {};
    for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (credential.response[name]) response[name] = text(credential.response[name]);
    }
    if (credential.response.getTransports) response.transports = credential.response.getTransports();
    return JSON.stringify({
      id: credential.id, rawId: text(credential.rawId), type: credential.type, response,
      clientExtensionResults: credential.getClientExtensionResults(),
    });
  }

  async function ask(form) {
    const said = form.querySelector("[data-said]"), button = form.querySelector("button");
    const say = (words) => { said.textContent = words; said.hidden = !words; };
    say("");
    button.disabled = true;
    try {
      const answer = await fetch(form.dataset.options, {
        method: "POST", headers: { Accept: "application/json" },
        body: new URLSearchParams({ csrf_token: form.elements.csrf_token.value }),
      });
      const options = await answer.json();
      if (!answer.ok) { say([options.message, options.hint].filter(Boolean).join(" ")); return; }
      const publicKey = prepared(options);
      const credential = form.dataset.passkey === "create"
        ? await navigator.credentials.create({ publicKey }) : await navigator.credentials.get({ publicKey });
      form.elements.credential.value = answered(credential);
      form.submit();
    } catch (error) {
      // Whoever turns away, waits too long or has none: the browser says only that it was not allowed.
      say(error instanceof DOMException ? said.dataset.refused : said.dataset.failed);
    } finally {
      button.disabled = false;
      delete form.dataset.sent;
    }
  }

  for (const form of forms) {
    if (!window.PublicKeyCredential) { form.remove(); continue; }
    form.addEventListener("submit", (event) => { event.preventDefault(); ask(form); });
  }
})();
