// What an account can be told to do.

import { createCipheriv, hkdfSync, randomBytes } from 'node:crypto'
import { deflateSync } from 'node:zlib'
import { accounts, connect, register, remember, until } from './account.mjs'
import { admin, baileys } from './baileys.mjs'
import { rich } from './wire.mjs'

const { downloadMediaMessage, encodeWAMessage, encryptedStream, generateMessageIDV2, proto } = baileys

/** A message by its id, of those that the account has seen or sent. */
function seen(account, id) {
  const message = account.messages.get(id)
  if (!message) throw new Error(`${account.name} has seen no message ${id}`)
  return message
}

async function named(account, order) {
  if (order.name && account.state.creds.me) {
    account.state.creds.me.name = order.name
    account.socket.ev.emit('creds.update', { me: account.state.creds.me })
    await account.socket.sendNode({ tag: 'presence', attrs: { name: order.name } })
  }
}

async function toOwnDevice({ socket }, to, message) {
  await socket.assertSessions([to])
  const { type, ciphertext } = await socket.signalRepository.encryptMessage({ jid: to, data: encodeWAMessage(proto.Message.fromObject(message)) })
  const attrs = { id: generateMessageIDV2(), to, type: 'text', category: 'peer', push_priority: 'high' }
  await socket.sendNode({ tag: 'message', attrs, content: [{ tag: 'enc', attrs: { v: '2', type }, content: ciphertext }] })
}

/** Types characters on the phone. Baileys shows them before the server knows that somebody waits for them. */
async function typed(account, what) {
  const began = Date.now()
  for (;;) {
    try {
      return await admin(account.admin, 'enter-code', what)
    } catch (error) {
      if (!error.message.includes('no client waits') || Date.now() - began > 30_000) throw error
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
}

export const commands = {
  /** Shows a code, which the phone of `phone` scans; comes back when the account is logged in. */
  async pair(account, order) {
    const open = until(account, 'open')
    const shown = until(account, 'qr')
    connect(account)
    const { phone, lid, name } = order
    const linked = await admin(account.admin, 'scan', { qr: await shown, phone, lid, name })
    await open
    await named(account, order)
    return { ...linked, me: account.state.creds.me }
  },

  /** The same with characters that are typed on the phone; `typed` are others than those that are shown. */
  async pairByCode(account, order) {
    const shown = until(account, 'qr')
    const open = until(account, 'open')
    connect(account)
    await shown
    const code = await account.socket.requestPairingCode(order.phone)
    const { phone, lid, name } = order
    await typed(account, { code: order.typed ?? code, phone, lid, name })
    if (order.typed) return { code }
    await open
    await named(account, order)
    return { code, me: account.state.creds.me }
  },

  /** Makes the server know the account, which was linked with another one. */
  register: account => register(account),

  /** Connects anew; comes back when the account is logged in. */
  async connect(account) {
    const open = until(account, 'open')
    connect(account)
    await open
    return { me: account.state.creds.me }
  },

  /** Ends the connection, keeps the keys. */
  async close(account) {
    if (account.connection === 'closed') return
    const closed = until(account, 'close')
    account.socket.end(undefined)
    await closed
  },

  /** Closes, and forgets the account; its folder can be opened again, or by somebody else. */
  async forget(account) {
    await commands.close(account)
    accounts.delete(account.name)
  },

  /** Unlinks itself. */
  async logout(account) {
    await account.socket.logout()
  },

  /** Whether it is connected, and as whom. */
  state: async account => ({ connection: account.connection, me: account.state.creds.me ?? null, qr: account.qr ?? null }),

  /**
   * Sends what Baileys calls a content: `{text}`, `{image: {base64}, caption}`, `{react: {text, key}}`, `{text, edit: key}`,
   * `{delete: key}`, `{poll: {…}}` and so on; with `quoted`, the id of a message, it is an answer.
   */
  async send(account, { to, content, quoted, options }) {
    const more = { ...rich(options ?? {}), ...(quoted ? { quoted: seen(account, quoted) } : {}) }
    const sent = await account.socket.sendMessage(to, rich(content), more)
    remember(account, sent)
    return sent
  },

  /** Sends a message as the protocol has it; `options` are those of `relayMessage`. */
  async relay(account, { to, message, options }) {
    return { id: await account.socket.relayMessage(to, proto.Message.fromObject(rich(message)), rich(options ?? {})) }
  },

  /** Sends a message of the protocol to one device of the account's own. */
  async peer(account, { to, message }) {
    await toOwnDevice(account, to, rich(message))
  },

  /**
   * As a phone: gives a device the key by which settings are encrypted, made anew or, with `again`, the last one. From then on
   * both can change what they share: names of contacts, chats that are muted.
   */
  async shareKeys(account, { to, again }) {
    const { creds, keys } = account.state
    const id = again && creds.myAppStateKeyId ? Buffer.from(creds.myAppStateKeyId, 'base64') : Buffer.from([0, 0, ...randomBytes(4)])
    const name = id.toString('base64')
    const known = (await keys.get('app-state-sync-key', [name]))[name]
    const key = known ?? { keyData: randomBytes(32), fingerprint: { rawId: 1, currentIndex: 2, deviceIndexes: [0, 1] }, timestamp: Date.now() }
    await keys.set({ 'app-state-sync-key': { [name]: key } })
    creds.myAppStateKeyId = name
    await account.saveCreds()
    const shared = { keys: [{ keyId: { keyId: id }, keyData: key }] }
    const type = proto.Message.ProtocolMessage.Type.APP_STATE_SYNC_KEY_SHARE
    await toOwnDevice(account, to, { protocolMessage: { type, appStateSyncKeyShare: shared } })
    return { key: name }
  },

  /**
   * As a phone: sends a device a piece of the past, `conversations` as `proto.Conversation` has them; `kind` is a name of
   * `HistorySyncType`, and `session` the id of the request that it answers.
   */
  async history(account, { to, kind, conversations, session }) {
    const syncType = proto.HistorySync.HistorySyncType[kind]
    const past = proto.HistorySync.encode(proto.HistorySync.fromObject({ syncType, chunkOrder: 1, progress: 100, conversations: rich(conversations) })).finish()
    const file = await encryptedStream(deflateSync(past), 'md-msg-hist', {})
    const sha = Buffer.from(file.fileEncSha256).toString('base64')
    const { directPath } = await account.socket.waUploadToServer(file.encFilePath, { mediaType: 'md-msg-hist', fileEncSha256B64: sha })
    const historySyncNotification = {
      syncType, directPath, mediaKey: file.mediaKey, fileSha256: file.fileSha256, fileEncSha256: file.fileEncSha256,
      fileLength: past.length, chunkOrder: 1, progress: 100, peerDataRequestSessionId: session
    }
    const type = proto.Message.ProtocolMessage.Type.HISTORY_SYNC_NOTIFICATION
    await toOwnDevice(account, to, { protocolMessage: { type, historySyncNotification } })
  },

  /** As a phone: how a device is told that the file of a message that somebody has sent is there again, at `path`. */
  async anew(account, { message, path }) {
    const { key, message: content } = seen(account, message)
    const file = Object.values(content).find(part => part?.mediaKey)
    const secret = hkdfSync('sha256', file.mediaKey, Buffer.alloc(0), 'WhatsApp Media Retry Notification', 32)
    const iv = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', Buffer.from(secret), iv).setAAD(Buffer.from(key.id))
    const { SUCCESS } = proto.MediaRetryNotification.ResultType
    const said = proto.MediaRetryNotification.encode({ stanzaId: key.id, directPath: path, result: SUCCESS }).finish()
    return { p: Buffer.concat([cipher.update(said), cipher.final(), cipher.getAuthTag()]), iv }
  },

  /** Forwards a message that it has seen. */
  async forward(account, { to, message }) {
    const sent = await account.socket.sendMessage(to, { forward: seen(account, message), force: true })
    remember(account, sent)
    return sent
  },

  /** The file of a message that it has seen. */
  async download(account, { message }) {
    return downloadMediaMessage(seen(account, message), 'buffer', {})
  },

  /** A message that it has seen, whole. */
  message: async (account, { message }) => seen(account, message),

  /** Says that it has read messages. */
  async read(account, { keys }) {
    await account.socket.readMessages(keys)
  },

  /** `available`, `unavailable`, `composing`, `recording` or `paused`. */
  async presence(account, { type, to }) {
    await account.socket.sendPresenceUpdate(type, to)
  },

  /** Rings. */
  async ring(account, { to, call, video }) {
    const me = account.state.creds.me
    const media = [{ tag: 'audio', attrs: { enc: 'opus', rate: '16000' } }, ...(video ? [{ tag: 'video', attrs: { enc: 'vp8' } }] : [])]
    const node = { tag: 'call', attrs: { id: account.socket.generateMessageTag(), to },
      content: [{ tag: 'offer', attrs: { 'call-id': call, 'call-creator': me.id }, content: media }] }
    await account.socket.sendNode(node)
  },

  /** Any method of Baileys' socket. */
  async call(account, { method, args }) {
    if (typeof account.socket[method] !== 'function') throw new Error(`Baileys has no ${method}`)
    return account.socket[method](...rich(args ?? []))
  },

  /** Asks the server with a node of one's own. */
  async query(account, { node }) {
    return account.socket.query(rich(node))
  },

  /** Sends a node of one's own. */
  async node(account, { node }) {
    await account.socket.sendNode(rich(node))
  }
}
