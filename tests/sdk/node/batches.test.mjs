// Batches through the official client for Node. The account is this script's alone.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import OpenAI from 'openai'
import { CHAT, ENDLESS, ENDPOINTS, checkBatch, client, collected, ended, jsonl, lines, requests, submit, upload, waitFor } from './work.mjs'

const ROWS = 50
const ids = (found) => found.map((line) => line.custom_id)
const numbered = (from, to) => Array.from({ length: to - from }, (_, number) => `row-${from + number}`)

for (const endpoint of ENDPOINTS) {
  test(`a file of requests to ${endpoint} becomes a file of answers in input order`, async () => {
    const created = await submit(Array(ROWS).fill('sim'), endpoint, { metadata: { order: '17' } })
    checkBatch(created)
    assert.equal(created.status, 'validating')
    assert.equal(created.expires_at, created.created_at + 24 * 3600)
    const batch = await ended(created)
    checkBatch(batch)
    assert.equal(batch.status, 'completed')
    assert.deepEqual(batch.request_counts, { total: ROWS, completed: ROWS, failed: 0 })
    assert.deepEqual(batch.metadata, { order: '17' })
    assert.ok(!batch.error_file_id)
    assert.ok(batch.created_at <= batch.in_progress_at && batch.in_progress_at <= batch.completed_at)

    const output = await lines(batch.output_file_id)
    assert.deepEqual(ids(output), numbered(0, ROWS))
    const sums = { input: 0, output: 0, total: 0 }
    for (const { error, response } of output) {
      assert.equal(error, null)
      assert.equal(response.status_code, 200)
      const { usage } = response.body
      sums.input += usage.prompt_tokens ?? usage.input_tokens
      sums.output += usage.completion_tokens ?? usage.output_tokens ?? 0
      sums.total += usage.total_tokens
    }
    assert.equal(batch.usage.input_tokens, sums.input)
    assert.equal(batch.usage.output_tokens, sums.output)
    assert.equal(batch.usage.total_tokens, sums.total)
    assert.ok(Number.isInteger(batch.usage.input_tokens_details.cached_tokens))
    assert.ok(Number.isInteger(batch.usage.output_tokens_details.reasoning_tokens))
  })
}

test('rows that fail are in the error file and the others in the output', async () => {
  const batch = await ended(await submit(['sim', 'sim-400', 'sim', 'sim-404']))
  assert.equal(batch.status, 'completed')
  assert.deepEqual(batch.request_counts, { total: 4, completed: 2, failed: 2 })
  assert.deepEqual(ids(await lines(batch.output_file_id)), ['row-0', 'row-2'])
  const failed = await lines(batch.error_file_id)
  assert.deepEqual(ids(failed), ['row-1', 'row-3'])
  assert.deepEqual(failed.map((line) => [line.response.status_code, line.error]), [[400, null], [404, null]])
})

test('output files are files with their exact size', async () => {
  const batch = await ended(await submit(['sim', 'sim-400']))
  for (const id of [batch.output_file_id, batch.error_file_id]) {
    const file = await client.files.retrieve(id)
    const response = await client.files.content(id)
    assert.equal(file.purpose, 'batch_output')
    assert.equal(file.status, 'processed')
    assert.equal(Number(response.headers.get('content-length')), file.bytes)
    assert.equal((await response.arrayBuffer()).byteLength, file.bytes)
  }
  const listed = await collected(client.files.list({ purpose: 'batch_output', limit: 1 }))
  assert.ok(listed.includes(batch.output_file_id))
  assert.ok(listed.includes(batch.error_file_id))
  assert.equal((await client.files.delete(batch.output_file_id)).deleted, true)
  await assert.rejects(client.files.content(batch.output_file_id), OpenAI.NotFoundError)
})

test('a bad line fails the batch with its number', async () => {
  const file = await upload(jsonl([requests(['sim'])[0], '{not JSON']))
  const created = await client.batches.create({ input_file_id: file.id, endpoint: CHAT, completion_window: '24h' })
  const batch = await ended(created)
  assert.equal(batch.status, 'failed')
  assert.ok(Number.isInteger(batch.failed_at))
  assert.equal(batch.errors.object, 'list')
  const [{ code, line, message }] = batch.errors.data
  assert.deepEqual([code, line, typeof message], ['invalid_json_line', 2, 'string'])
})

test('bad lines can be skipped', async () => {
  const [first, , third] = requests(['sim', 'sim', 'sim'])
  const file = await upload(jsonl([first, '{not JSON', third]))
  const batch = await ended(
    await client.batches.create({ input_file_id: file.id, endpoint: CHAT, completion_window: '24h', on_error: 'skip' }),
  )
  assert.equal(batch.status, 'completed')
  assert.deepEqual(ids(await lines(batch.output_file_id)), ['row-0', 'row-2'])
  assert.deepEqual((await lines(batch.error_file_id)).map((line) => line.error.code), ['invalid_json_line'])
})

test('requests can be sent without a file', async () => {
  const created = await client.batches.create({ requests: requests(['sim', 'sim']), endpoint: CHAT, completion_window: '24h' })
  checkBatch(created)
  const batch = await ended(created)
  assert.equal(batch.status, 'completed')
  assert.deepEqual(ids(await lines(batch.output_file_id)), ['row-0', 'row-1'])
})

test('outputs expire when their customer says', async () => {
  const seconds = 3600
  const batch = await ended(await submit(['sim'], CHAT, { output_expires_after: { anchor: 'created_at', seconds } }))
  const file = await client.files.retrieve(batch.output_file_id)
  assert.equal(file.expires_at, file.created_at + seconds)
})

test('a cancelled batch delivers what finished, and cannot be cancelled again', async () => {
  const finished = 3
  const stopped = 5
  const created = await submit([...Array(finished).fill('sim'), ...Array(stopped).fill(ENDLESS)])
  await waitFor(
    () => client.batches.retrieve(created.id),
    (found) => found.request_counts.completed === finished,
  )
  const cancelling = await client.batches.cancel(created.id)
  assert.ok(['cancelling', 'cancelled'].includes(cancelling.status))
  const batch = await ended(created)
  checkBatch(batch)
  assert.equal(batch.status, 'cancelled')
  assert.deepEqual(ids(await lines(batch.output_file_id)), numbered(0, finished))
  const rest = await lines(batch.error_file_id)
  assert.deepEqual(ids(rest), numbered(finished, finished + stopped))
  for (const { response, error } of rest) assert.deepEqual([response, error.code], [null, 'batch_cancelled'])

  let sent = 0
  const counting = client.withOptions({ fetch: (...request) => (sent++, fetch(...request)) })
  await assert.rejects(counting.batches.cancel(batch.id), OpenAI.ConflictError)
  assert.equal(sent, 1)
})

test('the beginning of a running batch\'s output can be read', async () => {
  const created = await submit(['sim', 'sim', 'sim', ENDLESS])
  const running = await waitFor(
    () => client.batches.retrieve(created.id),
    (found) => found.request_counts.completed === 3 && found.output_file_id,
  )
  const response = await client.files.content(running.output_file_id, { query: { offset: 1 } })
  assert.equal(response.headers.get('x-incomplete'), 'true')
  assert.equal(response.headers.get('x-last-line'), '3')
  const given = (await response.text()).trimEnd().split('\n').map((line) => JSON.parse(line))
  assert.deepEqual(ids(given), ['row-1', 'row-2'])
  await client.batches.cancel(created.id)
})

test('the pages of a list hold every batch once, newest first', async () => {
  const before = await collected(client.batches.list())
  const created = []
  for (let number = 0; number < 5; number++) created.unshift((await submit(['sim'])).id)
  for (const limit of [1, 2, 100]) {
    assert.deepEqual(await collected(client.batches.list({ limit })), [...created, ...before])
  }
  assert.deepEqual(await collected(client.batches.list({ after: created[1], limit: 2 })), [...created.slice(2), ...before])
  assert.deepEqual((await client.batches.list({ limit: 0 })).data, [])
})
