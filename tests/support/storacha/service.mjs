// Local Storacha upload service for integration tests (loopback only, in-memory).
// It runs the service code that npm publishes (@storacha/upload-api, @storacha/filecoin-api);
// this file only wires the parts together. Nothing leaves 127.0.0.1.
//
//   node service.mjs [--port 0] [--out env.json] [--uplink 0]
//
// --uplink: bytes per second that each connection to the storage node carries; 0 for no limit
//
// POST /                     UCAN invocations (CAR), what the storacha CLI talks to
// GET  /receipt/<task cid>   receipts, from the service's own agent store
// GET  /blob/<car cid>       bytes of a stored shard (from the storage node)
// POST /bridge               the HTTP bridge, written here from its spec (not published on npm)
// GET  /_state               pieces and deals, as JSON
// POST /_filecoin/aggregate  storefront -> aggregator -> dealer ("offered", no deal yet); body {"taken":[[piece
//                            cid, car cid]..]}: these, too, as if their CARs were here and had been hashed
// POST /_filecoin/deal       body {"provider":"f01234","dealId":1138}: deals for offered aggregates
// POST /_filecoin/forget     drop all deals (deal expiry / drift)
// POST /_delegate            body {"can":[..],"expiration":1,"notBefore":1,"secret":"..","foreign":true,
//                            "elsewhere":true}: a delegation of the space (foreign: of another one) to the
//                            agent (elsewhere: to another one), or with a secret to the bridge's key of it
// POST /_writes              body {"disabled":true}: answer as the hosted service does since May 2026
// POST /_lose                body {"root":"<cid>","lost":["<car cid>"]}: the upload is listed without these shards
import http from 'node:http'
import net from 'node:net'
import fs from 'node:fs'
import { createContext, cleanupContext } from '@storacha/upload-api/test/context'
import { AgentMessage } from '@storacha/upload-api'
import {
  getStoreImplementations,
} from '@storacha/filecoin-api/test/context/service'
import * as StorefrontEvents from '@storacha/filecoin-api/storefront/events'
import * as Aggregator from '@storacha/filecoin-api/aggregator/service'
import * as AggregatorEvents from '@storacha/filecoin-api/aggregator/events'
import * as Dealer from '@storacha/filecoin-api/dealer/service'
import * as DealerEvents from '@storacha/filecoin-api/dealer/events'
import * as DealTracker from '@storacha/filecoin-api/deal-tracker/service'
import * as AssertCaps from '@storacha/capabilities/assert'
import * as AggregatorCaps from '@storacha/capabilities/filecoin/aggregator'
import * as Signer from '@ucanto/principal/ed25519'
import { Message, delegate, invoke, CAR as CARCodec, Receipt, sha256 } from '@ucanto/core'
import { extract } from '@ucanto/core/delegation'
import * as dagJSON from '@ipld/dag-json'
import * as CAR from '@ucanto/transport/car'
import { CID } from 'multiformats/cid'
import { base64, base64url } from 'multiformats/bases/base64'
import { identity } from 'multiformats/hashes/identity'

const arg = (name, fallback) => {
  const i = process.argv.indexOf(name)
  return i > 0 ? process.argv[i + 1] : fallback
}
const must = (r) => {
  if (r?.error) throw Object.assign(new Error(r.error.message), { cause: r.error })
  return r?.ok
}

// The helpers call server.listen(cb): keep every listener on loopback. Their storage node also
// destroys the response right after end(), which cuts off blobs of more than some MiB: wait for
// the bytes to be flushed first.
const uplink = Number(arg('--uplink', 0))
const slowDown = (server, cb) => {
  const { port } = server.address()
  const front = net.createServer((client) => {
    const inner = net.connect(port, '127.0.0.1')
    let freeAt = 0
    client.on('data', (chunk) => {
      const now = Date.now()
      freeAt = Math.max(freeAt, now) + (chunk.length / uplink) * 1000
      inner.write(chunk)
      client.pause()
      setTimeout(() => client.resume(), freeAt - now)
    })
    client.on('end', () => inner.end())
    inner.pipe(client)
    for (const end of [client, inner]) end.on('error', () => { client.destroy(); inner.destroy() })
  })
  server.on('close', () => front.close())
  front.listen(0, '127.0.0.1', () => {
    server.address = () => front.address()
    cb()
  })
  return server
}
const loopback = {
  createServer: (handler) => {
    const server = http.createServer((req, res) => {
      const destroy = res.destroy.bind(res)
      res.destroy = (e) => {
        if (res.writableFinished || !res.writableEnded) return destroy(e)
        res.once('finish', () => destroy(e))
        return res
      }
      handler(req, res)
    })
    const listen = server.listen.bind(server)
    server.keepAliveTimeout = 0 // the CLI hashes for seconds between two requests on one connection
    server.listen = (cb) => listen(0, '127.0.0.1', uplink ? () => slowDown(server, cb) : cb)
    return server
  },
}

const ctx = await createContext({ http: loopback, requirePaymentPlan: false })
const service = ctx.id
const resolveDIDKey = (did) =>
  did === service.did()
    ? { ok: [service.toDIDKey()] }
    : { error: Object.assign(new Error(`cannot resolve ${did}`), { name: 'DIDKeyResolutionError' }) }
const common = {
  resolveDIDKey,
  validateAuthorization: () => ({ ok: {} }),
  errorReporter: { catch: (e) => console.error(e) },
}

// the helpers' proofs for the indexer and claims services carry no expiration, so they lapse
// after ucanto's default of 30 seconds; issue them again without an end
for (const { invocationConfig: c } of [ctx.indexingService, ctx.claimsService]) {
  c.proofs = [
    await AssertCaps.assert.delegate({
      issuer: c.audience, with: c.audience.did(), audience: c.issuer, expiration: Infinity,
    }),
  ]
}

// ---- logins: "click" the link in the mail as soon as it is sent
const sendValidation = ctx.mail.sendValidation.bind(ctx.mail)
ctx.mail.sendValidation = async (mail) => {
  await sendValidation(mail)
  const [user, domain] = mail.to.split('@')
  await ctx.plansStorage.initialize(`did:mailto:${domain}:${encodeURIComponent(user)}`, 'local', 'did:web:free.local')
  setTimeout(() => ctx.grantAccess(mail).catch((e) => console.error('login', e)), 50)
}

// ---- filecoin pipeline: real aggregator, dealer and deal tracker services
const stores = getStoreImplementations()
// one identity for aggregator and dealer: the aggregator's piece/accept receipt joins an
// aggregate/offer "with" its own DID, and the dealer only serves offers "with" the dealer's
const [aggregatorId, trackerId] = await Promise.all([Signer.generate(), Signer.generate()])
const dealerId = aggregatorId
// invocations and receipts of every service land in the upload service's agent store
ctx.taskStore.get = (link) => ctx.agentStore.invocations.get(link).then(named)
ctx.receiptStore.get = (link) => ctx.agentStore.receipts.get(link).then(named)
const named = (r) => (r.error ? { error: Object.assign(new Error('not found'), { name: 'RecordNotFound' }) } : r)
const recorded = (server) => ({
  async request(req) {
    const data = await CAR.request.decode(req)
    await ctx.agentStore.messages.write({ data, source: req, index: AgentMessage.index(data) })
    const res = await server.request(req)
    const out = await CAR.response.decode(res)
    await ctx.agentStore.messages.write({ data: out, source: res, index: AgentMessage.index(out) })
    return res
  },
})

const trackerConnection = DealTracker.connect({
  id: trackerId,
  channel: DealTracker.createServer({ ...common, id: trackerId, dealStore: stores.dealTracker.dealStore }),
})
const dealTrackerService = (issuer) => ({
  connection: trackerConnection,
  invocationConfig: { issuer, with: issuer.did(), audience: trackerId },
})
Object.assign(ctx.dealTrackerService, dealTrackerService(service))
Object.assign(ctx.aggregatorInvocationConfig, {
  issuer: service,
  audience: aggregatorId,
  with: aggregatorId.did(),
  proofs: [
    await AggregatorCaps.pieceOffer.delegate({
      issuer: aggregatorId, audience: service, with: aggregatorId.did(), expiration: Infinity,
    }),
  ],
})

const queue = () => {
  const items = []
  return { items, add: async (m) => (items.push(m), { ok: {} }), take: () => items.splice(0) }
}
const q = { piece: queue(), buffer: queue(), aggregateOffer: queue(), pieceAccept: queue() }
const aggregator = {
  ...common, ...stores.aggregator, id: aggregatorId, dealerId,
  pieceQueue: q.piece, bufferQueue: q.buffer,
  aggregateOfferQueue: q.aggregateOffer, pieceAcceptQueue: q.pieceAccept,
  config: { maxAggregateSize: 2 ** 30, minAggregateSize: 1, minUtilizationFactor: 2 ** 30 },
}
const dealer = {
  ...common, ...stores.dealer, id: dealerId, dealTrackerService: dealTrackerService(dealerId),
}
const aggregatorConnection = Aggregator.connect({ id: aggregatorId, channel: recorded(Aggregator.createServer(aggregator)) })
const dealerConnection = Dealer.connect({ id: dealerId, channel: recorded(Dealer.createServer(dealer)) })
const aggregatorService = {
  connection: aggregatorConnection,
  invocationConfig: { issuer: aggregatorId, with: aggregatorId.did(), audience: aggregatorId },
}
const dealerSelf = {
  connection: dealerConnection,
  invocationConfig: { issuer: dealerId, with: dealerId.did(), audience: dealerId },
}
const storefrontSelf = {
  connection: ctx.connection,
  invocationConfig: { issuer: service, with: service.did(), audience: service },
}
const contentStore = {
  stream: (link) => ctx.blobRetriever.stream(link.multihash),
}
async function drain(queue, handle) {
  for (const message of [...queue.items]) {
    must(await handle(message))
    queue.items.delete(message)
  }
}

async function aggregate({ taken = [] } = {}) {
  const before = new Set(ctx.pieceStore.items)
  await drain(ctx.filecoinSubmitQueue, (m) => StorefrontEvents.handleFilecoinSubmitMessage(
    { pieceStore: ctx.pieceStore, contentStore, router: ctx.router }, m))
  for (const [piece, content] of taken) {
    const now = new Date().toISOString()
    must(await ctx.pieceStore.put({
      piece: CID.parse(piece), content: CID.parse(content), group: service.did(), status: 'submitted', insertedAt: now, updatedAt: now,
    }))
  }
  for (const record of [...ctx.pieceStore.items].filter((p) => !before.has(p))) {
    must(await StorefrontEvents.handlePieceInsert({ storefrontService: storefrontSelf }, record))
  }
  await drain(ctx.pieceOfferQueue, (m) => StorefrontEvents.handlePieceOfferMessage(
    { aggregatorService: { connection: aggregatorConnection, invocationConfig: ctx.aggregatorInvocationConfig } }, m))
  const known = new Set(stores.aggregator.pieceStore.items)
  for (const m of q.piece.take()) must(await AggregatorEvents.handlePieceMessage(aggregator, m))
  const inserted = [...stores.aggregator.pieceStore.items].filter((p) => !known.has(p))
  if (inserted.length) must(await AggregatorEvents.handlePiecesInsert(aggregator, inserted))
  const buffers = q.buffer.take()
  if (buffers.length) must(await AggregatorEvents.handleBufferQueueMessage(aggregator, buffers))
  for (const m of q.aggregateOffer.take()) {
    must(await AggregatorEvents.handleAggregateOfferMessage(aggregator, m))
    const record = must(await stores.aggregator.aggregateStore.get({ aggregate: m.aggregate }))
    must(await AggregatorEvents.handleAggregateInsertToPieceAcceptQueue(aggregator, record))
    for (const p of q.pieceAccept.take()) {
      must(await AggregatorEvents.handlePieceAcceptMessage(aggregator, p))
      must(await AggregatorEvents.handleInclusionInsertToUpdateState(aggregator, p))
      must(await AggregatorEvents.handleInclusionInsertToIssuePieceAccept({ aggregatorService }, p))
    }
    must(await AggregatorEvents.handleAggregateInsertToAggregateOffer(
      { bufferStore: stores.aggregator.bufferStore, dealerService: dealerSelf }, record))
  }
  return state()
}

async function deal({ provider = 'f01234', dealId = 1138 } = {}) {
  let id = Number(dealId)
  for (const a of [...stores.dealer.aggregateStore.items].filter((a) => a.status === 'offered')) {
    await stores.dealTracker.dealStore.put({
      piece: a.aggregate, provider, dealId: id++, expirationEpoch: Math.floor(Date.now() / 1000) + 1_000_000,
      source: 'local', insertedAt: new Date().toISOString(), updatedAt: new Date().toISOString(),
    })
  }
  must(await DealerEvents.handleCronTick({ aggregateStore: stores.dealer.aggregateStore, dealTrackerService: dealer.dealTrackerService }))
  const dealt = new Set([...stores.dealTracker.dealStore.items].map((d) => String(d.piece)))
  // an aggregate whose deals were forgotten cannot be accepted again
  for (const a of [...stores.dealer.aggregateStore.items].filter((a) => a.status === 'accepted' && dealt.has(String(a.aggregate)))) {
    must(await DealerEvents.handleAggregateUpdatedStatus({ dealerService: dealerSelf }, a))
  }
  const tick = async () => must(await StorefrontEvents.handleCronTick({
    pieceStore: ctx.pieceStore, taskStore: ctx.taskStore, receiptStore: ctx.receiptStore,
    aggregatorInvocationConfig: ctx.aggregatorInvocationConfig,
  }))
  while ((await tick()).updatedCount) {} // its pages shift while it changes what they list
  for (const p of [...ctx.pieceStore.items].filter((p) => p.status === 'accepted')) {
    must(await StorefrontEvents.handlePieceStatusUpdate({ storefrontService: storefrontSelf }, p))
  }
  return state()
}

const state = () => ({
  pieces: [...ctx.pieceStore.items].map((p) => ({ piece: String(p.piece), content: String(p.content), status: p.status })),
  pendingSubmit: [...ctx.filecoinSubmitQueue.items].length,
  aggregates: [...stores.dealer.aggregateStore.items].map((a) => ({ aggregate: String(a.aggregate), status: a.status })),
  deals: [...stores.dealTracker.dealStore.items].map((d) => ({ aggregate: String(d.piece), provider: d.provider, dealId: d.dealId })),
})

// ---- http
let writesDisabled = false
const WRITES = /^(space\/blob\/(add|remove|replicate)|space\/index\/add|upload\/(add|remove)|store\/(add|remove))$/
const body = async (req) => {
  const chunks = []
  for await (const c of req) chunks.push(c)
  return Buffer.concat(chunks)
}
const json = (res, value, status = 200) => {
  res.writeHead(status, { 'content-type': 'application/json' })
  res.end(JSON.stringify(value))
}
const server = http.createServer(async (req, res) => {
  try {
    const { pathname } = new URL(req.url, 'http://localhost')
    if (req.method === 'POST' && pathname === '/') {
      const request = { headers: req.headers, body: new Uint8Array(await body(req)) }
      let response
      if (writesDisabled) {
        const msg = await CAR.request.decode(request)
        const inv = msg.invocations
        if (inv.some((i) => WRITES.test(i.capabilities[0].can))) {
          const receipts = await Promise.all(inv.map((i) => Receipt.issue({
            issuer: service, ran: i,
            result: { error: { name: 'ServiceUnavailable', message: `The "${i.capabilities[0].can}" capability is currently disabled.` } },
          })))
          response = CAR.response.encode(await Message.build({ receipts }))
        }
      }
      response ??= await ctx.connection.channel.request(request)
      res.writeHead(response.status ?? 200, response.headers)
      return res.end(response.body)
    }
    if (req.method === 'GET' && pathname.startsWith('/receipt/')) {
      const receipt = await ctx.agentStore.receipts.get(CID.parse(pathname.slice('/receipt/'.length)))
      if (receipt.error) { res.writeHead(404); return res.end() }
      const message = await Message.build({ receipts: [receipt.ok] })
      const encoded = CAR.request.encode(message)
      res.writeHead(200, encoded.headers)
      return res.end(encoded.body)
    }
    if (req.method === 'GET' && pathname.startsWith('/blob/')) {
      const found = await ctx.blobRetriever.stream(CID.parse(pathname.slice('/blob/'.length)).multihash)
      if (found.error) { res.writeHead(404); return res.end() }
      res.writeHead(200)
      for await (const c of found.ok) res.write(c)
      return res.end()
    }
    if (req.method === 'POST' && pathname === '/bridge') {
      const { 'x-auth-secret': secret, authorization } = req.headers
      if (!secret || !authorization) { res.writeHead(401); return res.end('missing auth headers') }
      const { digest } = await sha256.digest(base64url.decode(secret))
      const issuer = await Signer.derive(digest)
      const proof = must(await extract(base64url.decode(authorization)))
      const { tasks } = dagJSON.decode(new Uint8Array(await body(req)))
      const receipts = await ctx.connection.execute(...tasks.map(([can, subject, nb]) =>
        invoke({ issuer, audience: service, capability: { can, with: subject, nb }, proofs: [proof] })))
      res.writeHead(200, { 'content-type': 'application/vnd.ipld.dag-json' })
      return res.end(dagJSON.stringify(receipts.map((r) => ({ p: r.root.data.ocm, s: r.root.data.sig }))))
    }
    if (pathname === '/_state') return json(res, state())
    if (req.method === 'POST') {
      const input = JSON.parse((await body(req)).toString() || '{}')
      if (pathname === '/_filecoin/aggregate') return json(res, await aggregate(input))
      if (pathname === '/_filecoin/deal') return json(res, await deal(input))
      if (pathname === '/_filecoin/forget') { stores.dealTracker.dealStore.items.clear(); return json(res, state()) }
      if (pathname === '/_delegate') return json(res, await delegated(input))
      if (pathname === '/_lose') return json(res, await lose(input))
      if (pathname === '/_writes') { writesDisabled = !!input.disabled; return json(res, { writesDisabled }) }
    }
    res.writeHead(404)
    res.end()
  } catch (e) {
    console.error(e)
    if (!res.headersSent) res.writeHead(500)
    res.end(String(e?.stack ?? e))
  }
})
server.keepAliveTimeout = 0
await new Promise((r) => server.listen(Number(arg('--port', '0')), '127.0.0.1', r))
const url = `http://127.0.0.1:${server.address().port}`

// ---- a provisioned space and a delegation to a CI agent: no login needed
const [space, agent] = await Promise.all([Signer.generate(), Signer.generate()])
must(await ctx.provisionsStorage.put({
  cause: {}, consumer: space.did(), customer: 'did:mailto:example.com:ci', provider: service.did(),
}))
const proof = await delegate({
  issuer: space, audience: agent, expiration: Infinity,
  capabilities: ['space/*', 'blob/*', 'index/*', 'upload/*', 'store/*', 'filecoin/*', 'access/*', 'usage/*']
    .map((can) => ({ can, with: space.did() })),
})
const archive = must(await proof.archive())
async function delegated({ can, expiration = Infinity, notBefore, secret, foreign, elsewhere }) {
  const issuer = foreign ? await Signer.generate() : space
  const digest = secret && (await sha256.digest(new TextEncoder().encode(secret))).digest
  const audience = secret ? await Signer.derive(digest) : elsewhere ? await Signer.generate() : agent
  const made = await delegate({
    issuer, audience, expiration, notBefore, capabilities: can.map((can) => ({ can, with: issuer.did() })),
  })
  const bytes = must(await made.archive())
  return {
    proof: CID.createV1(CARCodec.code, identity.digest(bytes)).toString(base64),
    authorization: base64url.encode(bytes),
    secret: secret && base64url.encode(new TextEncoder().encode(secret)),
  }
}
async function lose({ root: wanted, lost }) {
  const ask = async (can, nb) => {
    const capability = { can, with: space.did(), nb }
    const [receipt] = await ctx.connection.execute(invoke({ issuer: space, audience: service, capability }))
    return must(receipt.out)
  }
  const root = CID.parse(wanted)
  const { results } = await ask('upload/list', {})
  const { shards } = results.find((each) => each.root.equals(root))
  await ask('upload/remove', { root })
  await ask('upload/add', { root, shards: shards.filter((each) => !lost.includes(String(each))) })
  return { shards: shards.map(String) }
}
const env = {
  STORACHA_SERVICE_DID: service.did(),
  STORACHA_SERVICE_URL: url,
  STORACHA_RECEIPTS_URL: `${url}/receipt/`,
  STORACHA_PRINCIPAL: Signer.format(agent),
  STORACHA_PROOF: CID.createV1(CARCodec.code, identity.digest(archive)).toString(base64),
}
const ready = { url, space: space.did(), agent: agent.did(), env }
if (arg('--out')) fs.writeFileSync(arg('--out'), JSON.stringify(ready, null, 2))
console.log(JSON.stringify(ready))
for (const s of ['SIGINT', 'SIGTERM']) {
  process.on(s, async () => {
    server.closeAllConnections(); server.close()
    await cleanupContext(ctx).catch(() => {})
    process.exit(0)
  })
}
