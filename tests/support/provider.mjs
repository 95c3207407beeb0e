// A real OpenID provider (oidc-provider) on a free port of this host, for the tests of signing in with one.
//
//   node provider.mjs CLIENT_ID SECRET REDIRECT_URI     prints its issuer, and serves until its standard input ends
//
// Whoever signs in types a JSON object of claims as the login; `sub` is who it is.
import { createRequire } from "node:module";
import http from "node:http";

const [client, secret, redirect] = process.argv.slice(2);
const { Provider } = await import(createRequire(process.env.MODULES + "/").resolve("oidc-provider"));

const people = new Map();
const server = http.createServer((request, response) => handler(request, response));
let handler;

server.listen(0, "127.0.0.1", () => {
  const issuer = `http://localhost:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: client, client_secret: secret, redirect_uris: [redirect],
      grant_types: ["authorization_code"], response_types: ["code"],
    }],
    pkce: { required: () => true },
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["preferred_username", "name"] },
    conformIdTokenClaims: false,
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_context, interaction) => `/people/${interaction.uid}` },
    findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id, ...people.get(id) }) }),
    cookies: { keys: ["only for tests"] },
  });
  const callback = provider.callback();
  handler = async (request, response) => {
    if (!request.url.startsWith("/people/")) return callback(request, response);
    const { prompt, params } = await provider.interactionDetails(request, response);
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const form = new URLSearchParams(Buffer.concat(chunks).toString());
    if (form.get("refuse")) {
      return provider.interactionFinished(request, response, { error: "access_denied" }, { mergeWithLastSubmission: false });
    }
    if (request.method === "POST" && prompt.name === "login") {
      const claims = JSON.parse(form.get("login"));
      people.set(claims.sub, claims);
      return provider.interactionFinished(request, response, { login: { accountId: claims.sub } });
    }
    if (prompt.name === "consent") {
      const { session } = await provider.interactionDetails(request, response);
      const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
      grant.addOIDCScope("openid email profile");
      return provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
    }
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    response.end(`<!doctype html><title>Provider</title><h1>The provider</h1><form method="post">
      <label>Claims <input name="login"></label><button>Sign in there</button><button name="refuse" value="yes">Refuse</button></form>`);
  };
  console.log(issuer);
});

process.stdin.on("end", () => process.exit(0)).resume();
