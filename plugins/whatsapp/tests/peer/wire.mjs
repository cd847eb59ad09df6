// What goes over the lines: bytes are `{"base64": "…"}` both ways, and large numbers are texts.

export function say(what) {
  process.stdout.write(JSON.stringify(what) + '\n')
}

/** Anything of Baileys as JSON has it. */
export function plain(value) {
  if (value === undefined || value === null) return value
  if (typeof value === 'bigint') return value.toString()
  if (typeof value === 'function') return undefined
  if (typeof value !== 'object') return value
  if (value instanceof Uint8Array) return { base64: Buffer.from(value).toString('base64') }
  if (value instanceof Date) return value.toISOString()
  if (value instanceof Error) return { error: value.message, code: value.output?.statusCode }
  if (typeof value.low === 'number' && typeof value.high === 'number') return value.toString()
  if (Array.isArray(value)) return value.map(plain)
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plain(part)]))
}

/** The other way round. */
export function rich(value) {
  if (value === null || typeof value !== 'object') return value
  if (Array.isArray(value)) return value.map(rich)
  if (typeof value.base64 === 'string' && Object.keys(value).length === 1) return Buffer.from(value.base64, 'base64')
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, rich(part)]))
}
