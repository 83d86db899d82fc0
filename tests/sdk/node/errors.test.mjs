// Refusals, models and the address without a version, through the official client for Node.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import OpenAI from 'openai'
import { CHAT, address, apiKey, client, collected, ended, jsonl, lines, requests, submit, upload, waitFor } from './work.mjs'

const REFUSALS = {
  'an unknown batch': [() => client.batches.retrieve('batch_' + '0'.repeat(32)), OpenAI.NotFoundError],
  'an unknown file': [() => client.files.retrieve('file-' + '0'.repeat(32)), OpenAI.NotFoundError],
  'a page that is too long': [() => client.batches.list({ limit: 101 }), OpenAI.BadRequestError],
  'an order that there is not': [() => client.files.list({ order: 'random' }), OpenAI.BadRequestError],
  'an address that there is not': [() => client.get('/no/such/address'), OpenAI.NotFoundError],
}
for (const [name, [call, expected]] of Object.entries(REFUSALS)) {
  test(`${name} is refused with the client's own error and all of its fields`, async () => {
    await assert.rejects(call, (error) => {
      assert.ok(error instanceof expected)
      assert.deepEqual(Object.keys(error.error).sort(), ['code', 'message', 'param', 'type'])
      assert.equal(error.type, error.error.type)
      assert.match(error.type, /_error$/)
      assert.ok(error.message.includes(error.error.message))
      assert.match(error.requestID, /^req_/)
      return true
    })
  })
}

test('a key that is none of ours is an authentication error', async () => {
  const stranger = new OpenAI({ apiKey: 'sk-none', baseURL: `${address}/v1` })
  await assert.rejects(stranger.files.list(), OpenAI.AuthenticationError)
})

test('a batch that means nothing is refused by the name of the field', async () => {
  await assert.rejects(submit(['sim'], CHAT, { endpoint: '/v1/moderations' }), { status: 400, param: 'endpoint' })
  await assert.rejects(submit(['sim'], CHAT, { input_file_id: 'file-' + '0'.repeat(32) }), { param: 'input_file_id' })
})

test('models are listed and read, and cannot be deleted', async () => {
  const listed = () => collected(client.models.list())
  await waitFor(listed, (ids) => ids.includes('sim'))
  const model = await client.models.retrieve('sim')
  assert.equal(model.object, 'model')
  assert.ok(Number.isInteger(model.created))
  assert.equal(typeof model.owned_by, 'string')
  for (const name of ['no-such-model', 'org/no such model']) {
    await assert.rejects(client.models.retrieve(name), OpenAI.NotFoundError)
  }
  await assert.rejects(client.models.delete('sim'), OpenAI.PermissionDeniedError)
  assert.ok((await listed()).includes('sim'))
})

test('the address may leave out the version', async () => {
  const unversioned = new OpenAI({ apiKey, baseURL: address })
  const file = await upload(jsonl(requests(['sim', 'sim'])))
  assert.deepEqual(await unversioned.files.retrieve(file.id), file)
  const batch = await unversioned.batches.create({ input_file_id: file.id, endpoint: CHAT, completion_window: '24h' })
  const finished = await ended(batch)
  assert.deepEqual(await unversioned.batches.retrieve(batch.id), finished)
  const content = await (await unversioned.files.content(finished.output_file_id)).text()
  assert.deepEqual(content.trimEnd().split('\n').map((line) => JSON.parse(line)), await lines(finished.output_file_id))
  assert.equal((await unversioned.files.delete(file.id)).deleted, true)
})
