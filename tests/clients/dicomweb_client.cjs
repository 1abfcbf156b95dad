// npm's dicomweb-client under node: a line {"options", "method", "arguments"} comes in, a line {"value"} or {"error"}
// goes out. Bytes are {"$bytes": base64} both ways.
const readline = require('node:readline')

// Standard output carries the answers; the client writes to its console.
console.log = console.debug = console.info = console.error

const [modules, url] = process.argv.slice(2)
globalThis.XMLHttpRequest = require(`${modules}/xhr2`)
const { DICOMwebClient } = require(`${modules}/dicomweb-client`).api

function toBytes(value) {
  if (Array.isArray(value)) return value.map(toBytes)
  if (value && value.$bytes !== undefined) {
    const bytes = Buffer.from(value.$bytes, 'base64')
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)
  }
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, toBytes(inner)]))
  }
  return value
}

function fromBytes(name, value) {
  return value instanceof ArrayBuffer ? { $bytes: Buffer.from(value).toString('base64') } : value
}

readline.createInterface({ input: process.stdin }).on('line', async line => {
  const { options, method, argument } = JSON.parse(line)
  let answer
  try {
    const client = new DICOMwebClient({ url, verbose: false, ...options })
    answer = { value: await client[method](toBytes(argument)) }
  } catch (error) {
    answer = { error: String(error), status: error.status }
  }
  process.stdout.write(JSON.stringify(answer, fromBytes) + '\n')
})
