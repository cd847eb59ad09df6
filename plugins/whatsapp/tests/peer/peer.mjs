// People who use WhatsApp, played by Baileys: a client that this project did not write, with a libsignal of its own.
//
// It is told what to do in lines of JSON on its standard input, `{"id", "do", "account", …}`, and answers each with
// `{"id", "done"}` or `{"id", "error"}` on its standard output, where it also says what happens, `{"event", "account", …}`.
// One process plays any number of accounts. It ends when its standard input does. Baileys is taken from the folder that
// OMNI_TEST_BAILEYS names.

import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { accounts, open } from './account.mjs'
import { commands } from './commands.mjs'
import { plain, say } from './wire.mjs'

// What libraries print is not an answer, and libsignal prints whole sessions.
console.log = console.info = console.debug = console.warn = () => {}
// Nobody listens any more.
process.stdout.on('error', () => process.exit(0))
process.on('unhandledRejection', why => say({ event: 'unhandled', error: String(why?.stack ?? why) }))

async function obey(order) {
  if (order.do === 'open') return open(order)
  const command = commands[order.do]
  if (!command) throw new Error(`nothing is known of ${JSON.stringify(order.do)}`)
  const account = accounts.get(order.account)
  if (!account) throw new Error(`${JSON.stringify(order.account)} was not opened`)
  return command(account, order)
}

const lines = createInterface({ input: process.stdin })
lines.on('line', async line => {
  let order
  try {
    order = JSON.parse(line)
    const done = await obey(order)
    say({ id: order.id, done: plain(done) ?? null })
  } catch (why) {
    say({ id: order?.id ?? null, error: String(why?.stack ?? why), code: why?.output?.statusCode })
  }
})
await once(lines, 'close')
process.exit(0)
