// Reads a path through Helia, from one gateway and nowhere else:
// node verified_fetch.mjs PACKAGES GATEWAY URL SECONDS.
// Prints the bytes, or the error with exit code 1. Helia without libp2p, whose WebRTC is a native module.
import { pathToFileURL } from 'node:url'

Promise.withResolvers ??= function () { // Node.js 22 has it, and these packages expect it
  const deferred = {}
  deferred.promise = new Promise((resolve, reject) => Object.assign(deferred, { resolve, reject }))
  return deferred
}

const [packages, gateway, url, seconds] = process.argv.slice(2)
const load = async (path) => import(pathToFileURL(`${packages}/node_modules/@helia/${path}`))
const { createHeliaHTTP } = await load('http/dist/src/index.js')
const { trustlessGateway } = await load('block-brokers/dist/src/index.js')
const { httpGatewayRouting } = await load('routers/dist/src/index.js')
const { VerifiedFetch } = await load('verified-fetch/dist/src/verified-fetch.js')

const helia = await createHeliaHTTP({
  blockBrokers: [trustlessGateway({ allowLocal: true, allowInsecure: true })],
  routers: [httpGatewayRouting({ gateways: [gateway] })]
})
const verifiedFetch = new VerifiedFetch({ helia })
try {
  const response = await verifiedFetch.fetch(url, { signal: AbortSignal.timeout(seconds * 1000) })
  if (!response.ok) throw new Error(`status ${response.status}`)
  process.stdout.write(Buffer.from(await response.arrayBuffer()))
} catch (error) {
  console.error(String(error))
  process.exitCode = 1
} finally {
  await verifiedFetch.stop()
  await helia.stop()
}
