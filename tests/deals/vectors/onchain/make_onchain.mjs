// Make the vectors of this directory with the official SDK of Filecoin Onchain Cloud, and with viem where the SDK
// has no function. The cases are pseudo-random and the same in every run. In a scratch directory:
//
//     npm install --ignore-scripts @filoz/synapse-core@0.5.2 viem@2.57.20
//     cp make_onchain.mjs SCRATCH && node SCRATCH/make_onchain.mjs THIS_DIRECTORY
//
// Each file is one case: what was signed or called, and the digest, signature, extraData or calldata.

import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createWalletClient, custom, encodeFunctionData, encodeAbiParameters, hashTypedData, parseAbi, toHex } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { CID } from 'multiformats/cid'
import { calibration, mainnet } from '@filoz/synapse-core/chains'
import {
  EIP712Types,
  getStorageDomain,
  signAddPieces,
  signCreateDataSet,
  signCreateDataSetAndAddPieces,
  signErc20Permit,
  signSchedulePieceRemovals,
} from '@filoz/synapse-core/typed-data'
import * as abis from '@filoz/synapse-core/abis'

const directory = process.argv[2]
let counter = 0
const random = (size) => {
  let bytes = Buffer.alloc(0)
  while (bytes.length < size) bytes = Buffer.concat([bytes, createHash('sha256').update(`case ${counter++}`).digest()])
  return bytes.subarray(0, size)
}
const below = (limit) => Number(BigInt(toHex(random(6))) % BigInt(limit))
const uint = () => {
  const bytes = random(below(33))
  return bytes.length === 0 ? 0n : BigInt(toHex(bytes))
}
const address = () => toHex(random(20))
const WORDS = ['source', 'withIPFSIndexing', 'ä', '名前', '', 'a b', '"quoted"', 'x'.repeat(32)]
const metadata = (most) => {
  const found = new Map()
  for (let left = below(most + 1); left > 0; left--) {
    const key = WORDS[below(WORDS.length)] || `k${below(100)}`
    found.set(key, WORDS[below(WORDS.length)].repeat(below(3)))
  }
  return [...found].map(([key, value]) => ({ key, value }))
}
const varint = (number) => (number < 128 ? [number] : [(number & 127) | 128, ...varint(Math.floor(number / 128))])
const piece = () => {
  const height = 2 + below(30)
  const padding = below(Math.min(127 * 2 ** (height - 2), 2 ** 30))
  const root = Buffer.from(random(32))
  root[31] &= 0x3f
  const digest = [...varint(padding), height, ...root]
  return Uint8Array.from([0x01, 0x55, 0x91, 0x20, ...varint(digest.length), ...digest])
}
const pieces = (most) => Array.from({ length: 1 + below(most) }, () => ({ pieceCid: CID.decode(piece()), metadata: metadata(3) }))
const plain = (value) =>
  JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? each.toString() : each instanceof Uint8Array ? toHex(each) : each), 1)
const client = (chain, key) =>
  createWalletClient({ account: privateKeyToAccount(key), chain, transport: custom({ request: () => { throw new Error('offline') } }) })
const shown = (list) => list.map((each) => ({ cid: each.pieceCid.toString(), metadata: each.metadata }))
const write = (kind, number, body) =>
  writeFileSync(join(directory, `${kind}-${String(number).padStart(2, '0')}.json`), plain({ kind, made_by: 'make_onchain.mjs', ...body }) + '\n')
const addMessage = (clientDataSetId, nonce, list) => ({
  clientDataSetId,
  nonce,
  pieceData: list.map((each) => ({ data: toHex(each.pieceCid.bytes) })),
  pieceMetadata: list.map((each, index) => ({ pieceIndex: BigInt(index), metadata: each.metadata })),
})

for (let number = 1; number <= 12; number++) {
  const chain = number % 2 ? calibration : mainnet
  const key = toHex(random(32))
  const payer = number % 3 ? privateKeyToAccount(key).address : address()
  const domain = getStorageDomain({ chain })
  const base = () => ({ chain_id: chain.id, service: domain.verifyingContract, key })
  const digest = (primaryType, message) => hashTypedData({ domain, types: EIP712Types, primaryType, message })
  const signer = client(chain, key)

  const create = { clientDataSetId: uint(), payee: address(), metadata: metadata(10) }
  write('create', number, {
    ...base(), payer, client_id: create.clientDataSetId, payee: create.payee, metadata: create.metadata,
    digest: digest('CreateDataSet', create), extra_data: await signCreateDataSet(signer, { ...create, payer }),
  })

  const added = { clientDataSetId: uint(), nonce: uint(), pieces: pieces(number === 12 ? 40 : 5) }
  write('add', number, {
    ...base(), client_id: added.clientDataSetId, nonce: added.nonce, pieces: shown(added.pieces),
    digest: digest('AddPieces', addMessage(added.clientDataSetId, added.nonce, added.pieces)),
    extra_data: await signAddPieces(signer, added),
  })

  const both = { clientDataSetId: uint(), nonce: uint(), payee: address(), metadata: metadata(4), pieces: pieces(3) }
  write('create-and-add', number, {
    ...base(), payer, client_id: both.clientDataSetId, nonce: both.nonce, payee: both.payee, metadata: both.metadata,
    pieces: shown(both.pieces), extra_data: await signCreateDataSetAndAddPieces(signer, { ...both, payer }),
  })

  const removed = { clientDataSetId: uint(), pieceIds: Array.from({ length: 1 + below(8) }, () => BigInt(below(10000))) }
  write('remove', number, {
    ...base(), client_id: removed.clientDataSetId, piece_ids: removed.pieceIds.map(Number),
    digest: digest('SchedulePieceRemovals', removed), extra_data: await signSchedulePieceRemovals(signer, removed),
  })

  const ended = { dataSetId: uint() }
  const typed = { domain, types: { TerminateService: [{ name: 'dataSetId', type: 'uint256' }] }, primaryType: 'TerminateService', message: ended }
  write('terminate', number, {
    ...base(), data_set: ended.dataSetId, digest: hashTypedData(typed),
    extra_data: encodeAbiParameters([{ type: 'bytes' }], [await privateKeyToAccount(key).signTypedData(typed)]),
    calldata: encodeFunctionData({ abi: parseAbi(['function terminateService(uint256)']), args: [ended.dataSetId] }),
  })

  const permit = { token: address(), spender: address(), amount: uint(), nonce: BigInt(below(100)), deadline: BigInt(below(2 ** 32)), name: WORDS[below(8)] || 'USDFC', version: '1' }
  const signature = await signErc20Permit(signer, permit)
  const allowances = [uint(), uint(), BigInt(below(10 ** 6))]
  const operator = address()
  const owner = privateKeyToAccount(key).address
  write('deposit', number, {
    chain_id: chain.id, key, ...permit, service: operator, allowances, signature,
    calldata: encodeFunctionData({
      abi: abis.filecoinPay, functionName: 'depositWithPermitAndApproveOperator',
      args: [permit.token, owner, permit.amount, permit.deadline, Number(BigInt('0x' + signature.slice(130))), signature.slice(0, 66), '0x' + signature.slice(66, 130), operator, ...allowances],
    }),
  })

  const session = address()
  const permissions = Array.from({ length: 1 + below(4) }, () => toHex(random(32)))
  const expires = BigInt(below(2 ** 32))
  write('session', number, {
    session, permissions, expires, origin: 'reconcile',
    login: encodeFunctionData({ abi: abis.sessionKeyRegistry, functionName: 'login', args: [session, expires, permissions, 'reconcile'] }),
    revoke: encodeFunctionData({ abi: abis.sessionKeyRegistry, functionName: 'revoke', args: [session, permissions, 'reconcile'] }),
  })
}
