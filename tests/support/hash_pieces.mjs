// Piece CIDs (v2) by two implementations that are not ours.
// usage: node hash_pieces.mjs <directory with node_modules> <file> <wasm|js> <size>...
// prints one line a size: the piece CID of the file's first <size> bytes, binary, in hex
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [, , packages, file, engine, ...sizes] = process.argv
const load = (name) => import(pathToFileURL(path.join(packages, 'node_modules', name, 'src', 'lib.js')))
const hex = (bytes) => Buffer.from(bytes).toString('hex')

const wasm = async () => {
  const module = await load('fr32-sha2-256-trunc254-padded-binary-tree-multihash')
  return (handle, size) => {
    const hasher = module.create()
    const buffer = new Uint8Array(1 << 20)
    for (let at = 0; at < size; ) {
      const count = fs.readSync(handle, buffer, 0, Math.min(buffer.length, size - at), at)
      hasher.write(buffer.subarray(0, count))
      at += count
    }
    const digest = new Uint8Array(hasher.multihashByteLength())
    hasher.digestInto(digest, 0, true)
    hasher.free()
    return hex(Uint8Array.from([0x01, 0x55, ...digest]))
  }
}
const js = async () => {
  const { Piece } = await load('@web3-storage/data-segment')
  return (handle, size) => {
    const payload = new Uint8Array(size)
    fs.readSync(handle, payload, 0, size, 0)
    return hex(Piece.fromPayload(payload).link.bytes)
  }
}
const hash = await { wasm, js }[engine]()
const handle = fs.openSync(file)
for (const size of sizes) console.log(hash(handle, Number(size)))
