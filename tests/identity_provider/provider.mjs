// An OpenID Connect provider on loopback (oidc-provider, certified by the OpenID Foundation), with accounts in a
// file that is read at each sign-in. Its login page takes a name and no password.
//
// Usage: node provider.mjs PORT ACCOUNTS.json REDIRECT_URI
import { readFileSync } from "node:fs";
import { Provider } from "oidc-provider";

const [port, file, ...redirects] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const account = (id) => JSON.parse(readFileSync(file, "utf8"))[id];

const provider = new Provider(issuer, {
  clients: [{
    client_id: "nodeadmin",
    client_secret: "a-secret-of-the-tests",
    redirect_uris: redirects,
    grant_types: ["authorization_code"],
    response_types: ["code"],
    token_endpoint_auth_method: "client_secret_basic",
  }],
  claims: { openid: ["sub", "amr", "acr"], profile: ["preferred_username", "given_name", "family_name", "email", "email_verified", "groups"] },
  pkce: { required: () => true },
  cookies: { keys: ["not-secret"] },
  features: { devInteractions: { enabled: false } },
  interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
  async findAccount(_context, id) {
    const known = account(id);
    return known && { accountId: id, claims: async () => ({ sub: id, ...known }) };
  },
});

provider.use(async (context, next) => {
  if (!context.path.startsWith("/interaction/")) return next();
  const { uid, params } = await provider.interactionDetails(context.req, context.res);
  if (context.method === "GET") {
    context.type = "html";
    context.body = `<!doctype html><title>Provider</title><link rel="icon" href="data:,"><form method="post" action="/interaction/${uid}"><input name="login"><button name="go" value="in">Sign in</button><button name="go" value="away">Cancel</button></form>`;
    return undefined;
  }
  let body = "";
  for await (const part of context.req) body += part;
  const given = new URLSearchParams(body);
  if (given.get("go") === "away") {
    return provider.interactionFinished(context.req, context.res, { error: "access_denied" }, { mergeWithLastSubmission: false });
  }
  const id = given.get("login");
  const known = account(id);
  const grant = new provider.Grant({ accountId: id, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const result = { login: { accountId: id, amr: known?.amr, acr: known?.acr }, consent: { grantId: await grant.save() } };
  return provider.interactionFinished(context.req, context.res, result, { mergeWithLastSubmission: false });
});

provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
