// The official client, and what the tests submit with it and read back.

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import OpenAI from 'openai'

export const CHAT = '/v1/chat/completions'
// Longer than any test waits: what calls it is stopped, not finished.
export const ENDLESS = 'sim-latency-60s'
const ENDED = new Set(['completed', 'failed', 'cancelled', 'expired'])
const POLL_MILLISECONDS = 20
const PATIENCE_MILLISECONDS = 60_000

export const address = process.env.BATCHYARD_URL
export const apiKey = process.env.BATCHYARD_KEY
export const client = new OpenAI({ apiKey, baseURL: `${address}/v1` })

const BODIES = {
  '/v1/chat/completions': (question) => ({ messages: [{ role: 'user', content: question }] }),
  '/v1/responses': (question) => ({ input: question }),
  '/v1/completions': (question) => ({ prompt: question }),
  '/v1/embeddings': (question) => ({ input: question }),
}
export const ENDPOINTS = Object.keys(BODIES)

// A request for each model, numbered from 0.
export function requests(models, endpoint = CHAT) {
  return models.map((model, number) => ({
    custom_id: `row-${number}`,
    method: 'POST',
    url: endpoint,
    body: { model, ...BODIES[endpoint](`What is ${number} and one?`) },
  }))
}

export function jsonl(lines) {
  return lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line)) + '\n').join('')
}

export async function upload(content, name = 'input.jsonl') {
  return client.files.create({ file: new File([content], name), purpose: 'batch' })
}

export async function submit(models, endpoint = CHAT, fields = {}) {
  const file = await upload(jsonl(requests(models, endpoint)))
  return client.batches.create({ input_file_id: file.id, endpoint, completion_window: '24h', ...fields })
}

export async function waitFor(look, done) {
  const deadline = performance.now() + PATIENCE_MILLISECONDS
  for (;;) {
    const found = await look()
    if (done(found)) return found
    assert.ok(performance.now() < deadline, `not so in time; the last look gave ${JSON.stringify(found)}`)
    // Between two looks.
    await sleep(POLL_MILLISECONDS)
  }
}

export async function ended(batch) {
  return waitFor(
    () => client.batches.retrieve(batch.id),
    (found) => ENDED.has(found.status),
  )
}

export async function lines(fileId) {
  const text = await (await client.files.content(fileId)).text()
  return text.split('\n').filter(Boolean).map((line) => JSON.parse(line))
}

export async function collected(list) {
  const ids = []
  for await (const item of list) ids.push(item.id)
  return ids
}

// The types of a batch, which JavaScript does not check by itself.
export function checkBatch(batch) {
  for (const name of ['id', 'endpoint', 'input_file_id', 'completion_window', 'status']) {
    assert.equal(typeof batch[name], 'string', name)
  }
  assert.equal(batch.object, 'batch')
  assert.ok(Number.isInteger(batch.created_at))
  for (const name of ['total', 'completed', 'failed']) assert.ok(Number.isInteger(batch.request_counts[name]), name)
  for (const name of ['in_progress_at', 'finalizing_at', 'completed_at', 'failed_at', 'expired_at', 'cancelling_at', 'cancelled_at']) {
    assert.ok(batch[name] == null || Number.isInteger(batch[name]), name)
  }
}
