// A real identity provider: oidc-provider, which is certified for OpenID Connect, with service applications in groups.
//
//   node provider.mjs <modules> <port> <directory of keys> <name of a key>...     tokens are signed by the first key
//
// Keys that are not there are made. The issuer is http://localhost:<port>. Says `ready` when it takes calls.
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [modules, port, directory, ...names] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(`${modules}/oidc-provider/lib/index.js`));

const GROUPS = { 'svc-ads': ['spark-ads', 'everybody'], 'svc-ml': ['spark-ml', 'everybody'], 'svc-none': ['everybody'] };

function key(name) {
  const file = `${directory}/${name}.json`;
  if (!existsSync(file)) {
    const made = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
    writeFileSync(file, JSON.stringify({ ...made, kid: name, use: 'sig', alg: 'RS256' }));
  }
  return JSON.parse(readFileSync(file));
}

const provider = new Provider(`http://localhost:${port}`, {
  clients: Object.keys(GROUPS).map((id) => ({
    client_id: id,
    client_secret: `${id}-secret`,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
  })),
  jwks: { keys: names.map(key) },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      // The audience is what the client asks for, as of an API in Okta or Keycloak.
      getResourceServerInfo: (_, resource) => ({
        scope: '',
        audience: resource,
        accessTokenTTL: 3600,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
  extraTokenClaims: (_, token) => ({ groups: GROUPS[token.clientId] }),
});
provider.listen(Number(port), 'localhost', () => console.log('ready'));
