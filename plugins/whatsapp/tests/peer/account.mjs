// One account: its keys on disk, its connection, and what it has seen.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { admin, baileys, trust } from './baileys.mjs'
import { plain, say } from './wire.mjs'

const { default: makeSocket, useMultiFileAuthState, initAuthCreds, signedKeyPair } = baileys

export const accounts = new Map()

const RESTART = 515

/** What is passed on as it happens, beside messages. */
const EVENTS = ['messages.update', 'messages.reaction', 'messages.media-update', 'message-receipt.update',
  'messages.delete', 'messaging-history.set', 'presence.update', 'groups.upsert', 'groups.update',
  'group-participants.update', 'chats.upsert', 'chats.update', 'contacts.upsert', 'contacts.update', 'chats.delete', 'labels.edit', 'labels.association', 'blocklist.update', 'lid-mapping.update',
  'call']

const silent = { level: 'silent', trace() {}, debug() {}, info() {}, warn() {}, error() {}, child: () => silent }

function loud(account) {
  const write = level => (what, text) => say({ event: 'log', account, level, what: plain(what), text })
  return { level: 'trace', trace() {}, debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error'),
    child: () => loud(account) }
}

/**
 * `open`: makes the account known, and connects it if its keys are there or it is a phone. `folder`, `url`, `rootPublicKey` and
 * `admin` say where; with `phone` it is device 0 of that account, made by the server; `name` is its push name; `log` says
 * what Baileys logs.
 */
export async function open(order) {
  const { account: name, folder, url, rootPublicKey, phone } = order
  if (accounts.has(name)) throw new Error(`${name} is open already`)
  trust(rootPublicKey)
  mkdirSync(folder, { recursive: true })
  const { state, saveCreds } = await useMultiFileAuthState(join(folder))
  const account = { name, order, url, admin: order.admin, state, saveCreds, messages: new Map(), waiting: [], connection: 'closed' }
  accounts.set(name, account)
  if (phone && !state.creds.me) await bePhone(account, phone)
  if (order.name && state.creds.me) state.creds.me.name = order.name
  if (state.creds.me && order.connect !== false) connect(account)
  return { me: state.creds.me ?? null }
}

/** Device 0, with the identity that the server has for it. */
async function bePhone(account, phone) {
  const made = await admin(account.admin, 'accounts', phone)
  const identity = { private: Buffer.from(made.identity.private, 'hex'), public: Buffer.from(made.identity.public, 'hex') }
  const creds = Object.assign(account.state.creds, initAuthCreds(), { signedIdentityKey: identity, signedPreKey: signedKeyPair(identity, 1) })
  creds.me = { id: `${made.phone}:0@s.whatsapp.net`, lid: `${made.lid}:0@lid`, name: phone.name ?? 'Phone' }
  creds.account = {}
  await register(account)
  await account.saveCreds()
}

/** Makes a server know the account's device by its keys, as if it had been linked with it before. */
export async function register(account) {
  const { creds } = account.state
  const base64 = bytes => Buffer.from(bytes).toString('base64')
  const [phone, device] = creds.me.id.split('@')[0].split(':')
  const { details, accountSignatureKey, accountSignature, deviceSignature } = creds.account
  const word = details && { details: base64(details), accountSignatureKey: base64(accountSignatureKey),
    accountSignature: base64(accountSignature), deviceSignature: base64(deviceSignature) }
  return admin(account.admin, 'devices', {
    phone, lid: creds.me.lid.split(/[:@]/)[0], name: creds.me.name, device: Number(device), word,
    noisePublic: base64(creds.noiseKey.public), identityPublic: base64(creds.signedIdentityKey.public),
    registrationId: creds.registrationId,
    signedPreKey: { id: creds.signedPreKey.keyId, public: base64(creds.signedPreKey.keyPair.public), signature: base64(creds.signedPreKey.signature) }
  })
}

/** Connects, or connects anew. */
export function connect(account) {
  const { state } = account
  const socket = makeSocket({
    auth: { creds: state.creds, keys: state.keys },
    waWebSocketUrl: account.url,
    logger: account.order.log ? loud(account.name) : silent,
    syncFullHistory: false,
    shouldSyncHistoryMessage: () => false,
    markOnlineOnConnect: account.order.online ?? false,
    getMessage: async key => account.messages.get(key.id)?.message
  })
  account.socket = socket
  account.connection = 'connecting'
  socket.ev.on('creds.update', account.saveCreds)
  socket.ev.on('creds.update', ({ myAppStateKeyId }) => {
    if (myAppStateKeyId) say({ event: 'app-state-key', account: account.name })
  })
  socket.ev.on('connection.update', update => changed(account, socket, update))
  socket.ev.on('messages.upsert', ({ messages, type }) => {
    for (const message of messages) {
      remember(account, message)
      say({ event: 'message', account: account.name, what: plain(message), type })
    }
  })
  for (const event of EVENTS) {
    // Baileys collects what happens at about the same time; here each is a line.
    socket.ev.on(event, what => { for (const one of [what].flat()) say({ event, account: account.name, what: plain(one) }) })
  }
}

export function remember(account, message) {
  if (message?.message) account.messages.set(message.key.id, message)
}

function changed(account, socket, update) {
  if (account.socket !== socket) return
  if (update.qr) {
    account.qr = update.qr
    say({ event: 'qr', account: account.name, qr: update.qr })
    settle(account, 'qr', update.qr)
  }
  if (update.connection === 'open') {
    account.connection = 'open'
    say({ event: 'open', account: account.name, me: plain(account.state.creds.me) })
    settle(account, 'open', account.state.creds.me)
  }
  if (update.connection === 'close') {
    const code = update.lastDisconnect?.error?.output?.statusCode
    account.connection = 'closed'
    say({ event: 'close', account: account.name, code, reason: update.lastDisconnect?.error?.message })
    settle(account, 'close', code)
    if (code === RESTART && account.order.restart !== false) connect(account)
    else settle(account, 'open', Promise.reject(Object.assign(new Error(`closed with ${code}`), { output: { statusCode: code } })))
  }
  if (update.receivedPendingNotifications) say({ event: 'caught-up', account: account.name })
}

/** Waits until the account is shown a code, is open, or is closed; one that closes does not open. */
export function until(account, what) {
  const come = new Promise(done => account.waiting.push({ what, done }))
  come.catch(() => {})   // whoever waits for it hears it
  return come
}

function settle(account, what, value) {
  const ready = account.waiting.filter(waiting => waiting.what === what)
  account.waiting = account.waiting.filter(waiting => waiting.what !== what)
  if (!ready.length) Promise.resolve(value).catch(() => {})
  for (const { done } of ready) done(value)
}
