// Baileys, and what a test has to change about it: whom it trusts, and that files on this machine come without TLS.

import http from 'node:http'
import https from 'node:https'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const folder = process.env.OMNI_TEST_BAILEYS
if (!folder) throw new Error('OMNI_TEST_BAILEYS names no folder')

export const baileys = await import(pathToFileURL(join(folder, 'node_modules/baileys/lib/index.js')))

/** The server's certificates are signed by the key that a test says, not by WhatsApp's. */
export function trust(rootPublicKey) {
  baileys.WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(rootPublicKey, 'hex')
}

const isHere = name => name === '127.0.0.1' || name === 'localhost'

const secure = https.request
https.request = (options, answered) => (isHere(options?.hostname) ? http : { request: secure }).request(options, answered)
syncBuiltinESMExports()

const fetched = globalThis.fetch
globalThis.fetch = (what, how) => {
  const url = new URL(typeof what === 'string' ? what : what.url ?? what)
  if (isHere(url.hostname)) url.protocol = 'http:'
  return fetched(isHere(url.hostname) ? url : what, how)
}

/** Asks the server's interface for tests. */
export async function admin(base, path, body) {
  const answer = await fetched(`${base}/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body)
  })
  const said = await answer.json()
  if (!answer.ok) throw new Error(`POST ${path}: ${said.error}`)
  return said
}
