// A real OpenID Connect provider for the tests, on loopback: any password is right, names say what roles they have.
//
// argv[2]: JSON {port, jwks, clients, audience, inIdToken}. Roles of a name are those after its dot: "wanda.pacs-writer".

import { Provider } from "oidc-provider";

const { port, jwks, clients, audience, inIdToken } = JSON.parse(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const rolesOf = (name) => name.split(".").slice(1);

const provider = new Provider(issuer, {
  clients,
  jwks,
  cookies: { keys: ["of the tests"] },
  pkce: { required: () => true },
  claims: { openid: ["sub", "realm_access"], profile: ["preferred_username"] },
  conformIdTokenClaims: !inIdToken,
  findAccount: (context, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id.split(".")[0], realm_access: { roles: rolesOf(id) } }),
  }),
  extraTokenClaims: (context, token) =>
    token.kind === "ClientCredentials" ? { realm_access: { roles: rolesOf(token.clientId) } } : undefined,
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: (context, client) => (client.grantTypes.includes("client_credentials") ? audience : []),
      getResourceServerInfo: () => ({ scope: "", audience, accessTokenFormat: "jwt", jwt: { sign: { alg: "RS256" } } }),
    },
  },
});
provider.on("server_error", (context, error) => console.log(error));
provider.listen(port, "127.0.0.1", () => console.log("ready"));
