// Files through the official client for Node. The account is this script's alone.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import OpenAI, { toFile } from 'openai'
import { client, collected, jsonl, requests, upload } from './work.mjs'

const CONTENT = jsonl(requests(['sim', 'sim', 'sim']))
const HOUR = 3600
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'batchyard-sdk-'))
const stored = path.join(folder, 'on disk.jsonl')
fs.writeFileSync(stored, CONTENT)
test.after(() => fs.rmSync(folder, { recursive: true }))

// A stream is sent in chunks without its length, everything else whole.
const FORMS = {
  'a stream from disk': [() => fs.createReadStream(stored), 'on disk.jsonl'],
  'a File': [() => new File([CONTENT], 'named.jsonl'), 'named.jsonl'],
  'a Buffer': [() => toFile(Buffer.from(CONTENT), 'buffer.jsonl'), 'buffer.jsonl'],
  'the body of another answer': [() => toFile(new Response(CONTENT), 'answer.jsonl'), 'answer.jsonl'],
  'a name that is not ASCII': [() => toFile(Buffer.from(CONTENT), 'Grüße, 世界.jsonl'), 'Grüße, 世界.jsonl'],
}
for (const [name, [make, filename]] of Object.entries(FORMS)) {
  test(`${name} is taken and comes back byte for byte`, async () => {
    const file = await client.files.create({ file: await make(), purpose: 'batch' })
    assert.match(file.id, /^file-[0-9a-f]{32}$/)
    assert.equal(file.object, 'file')
    assert.equal(file.bytes, Buffer.byteLength(CONTENT))
    assert.equal(file.filename, filename)
    assert.equal(file.purpose, 'batch')
    assert.equal(file.status, 'processed')
    assert.ok(Math.abs(file.created_at - Date.now() / 1000) < 60)
    assert.deepEqual(await client.files.retrieve(file.id), file)
    assert.equal(await (await client.files.content(file.id)).text(), CONTENT)
  })
}

for (const seconds of [HOUR, 720 * HOUR]) {
  test(`a file expires ${seconds} seconds after its creation when its customer says so`, async () => {
    const file = await client.files.create({
      file: fs.createReadStream(stored),
      purpose: 'batch',
      expires_after: { anchor: 'created_at', seconds },
    })
    assert.equal(file.expires_at, file.created_at + seconds)
  })
}

test('a file can neither expire too soon nor serve a purpose that there is not', async () => {
  const file = new File([CONTENT], 'input.jsonl')
  const tooSoon = { anchor: 'created_at', seconds: HOUR - 1 }
  await assert.rejects(client.files.create({ file, purpose: 'batch', expires_after: tooSoon }), OpenAI.BadRequestError)
  await assert.rejects(client.files.create({ file, purpose: 'vision' }), { status: 400, param: 'purpose' })
})

// Of a body that a server does not want, its end may never be read; the client has to get its answer all the same.
const WAYS_TO_SEND = {
  whole: (content) => new File([content], 'big.jsonl'),
  'in chunks': (content) => {
    const big = path.join(folder, 'big.jsonl')
    fs.writeFileSync(big, content)
    return fs.createReadStream(big)
  },
}
for (const [way, make] of Object.entries(WAYS_TO_SEND)) {
  for (const times of [1, 10]) {
    const content = Buffer.alloc(times * Number(process.env.MAX_UPLOAD_BYTES) + 1, 'x')
    test(`a file of ${content.length} bytes that is sent ${way} is refused with an answer, not with a broken connection`, async () => {
      const once = client.withOptions({ maxRetries: 0 })
      await assert.rejects(once.files.create({ file: make(content), purpose: 'batch' }), { status: 413 })
      const stranger = once.withOptions({ apiKey: 'sk-none' })
      await assert.rejects(stranger.files.create({ file: make(content), purpose: 'batch' }), { status: 401 })
    })
  }
}

test('a file is ready without waiting', async () => {
  const file = await upload(CONTENT)
  const began = performance.now()
  assert.deepEqual(await client.files.waitForProcessing(file.id), file)
  // Its first pause would be of five seconds.
  assert.ok(performance.now() - began < 4000)
})

test('the pages of a list hold every file once in the order asked for', async () => {
  const before = await collected(client.files.list())
  const uploaded = []
  for (let number = 0; number < 7; number++) uploaded.push((await upload(CONTENT)).id)
  const newestFirst = [...uploaded].reverse().concat(before)
  for (const limit of [1, 3, 10_000]) {
    assert.deepEqual(await collected(client.files.list({ limit })), newestFirst)
    assert.deepEqual(await collected(client.files.list({ limit, order: 'asc' })), [...newestFirst].reverse())
  }
  assert.deepEqual(await collected(client.files.list({ after: newestFirst[2], limit: 3 })), newestFirst.slice(3))
  assert.deepEqual(await collected(client.files.list({ purpose: 'batch_output' })), [])
  const page = await client.files.list({ limit: 3 })
  assert.equal(page.data.length, 3)
  assert.equal(page.has_more, true)
  assert.ok(page.hasNextPage())
  assert.deepEqual((await page.getNextPage()).data.map((file) => file.id), newestFirst.slice(3, 6))
})

test('content can be read as text, as bytes and as a stream', async () => {
  const file = await upload(CONTENT)
  const response = await client.files.content(file.id)
  assert.match(response.headers.get('content-type'), /^application\/octet-stream/)
  assert.equal(Number(response.headers.get('content-length')), file.bytes)
  assert.match(response.headers.get('content-disposition'), /input\.jsonl/)
  let streamed = ''
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) streamed += piece
  assert.equal(streamed, CONTENT)
  assert.equal(Buffer.from(await (await client.files.content(file.id)).arrayBuffer()).toString(), CONTENT)
})

test('a deleted file is gone', async () => {
  const file = await upload(CONTENT)
  assert.deepEqual({ ...(await client.files.delete(file.id)) }, { id: file.id, object: 'file', deleted: true })
  for (const method of ['retrieve', 'content', 'delete']) {
    await assert.rejects(client.files[method](file.id), OpenAI.NotFoundError)
  }
})

test('an answer carries the id of its request', async () => {
  const { data, response, request_id } = await client.files.create({ file: new File([CONTENT], 'a'), purpose: 'batch' }).withResponse()
  assert.equal(response.status, 200)
  assert.match(request_id, /^req_/)
  assert.equal(data._request_id, request_id)
})
