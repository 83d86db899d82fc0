"""A simulated OpenAI-compatible provider: python -m local.provider --port N [--latency SECONDS] ...

POST /v1/chat/completions, /v1/responses, /v1/completions (all three also with "stream": true) and /v1/embeddings,
GET /v1/models. Any bearer key is accepted. The text is derived from the prompt: the same request has the same answer.

Model names. Any name is served, by the settings. A name that starts with "sim-" is reserved and chooses for itself;
its options combine in any order, and an unknown one is a 404 (model_not_found):
  sim                        as the settings say
  latency-500ms latency-2s   seconds before the answer (before the first token of a stream)
  per-token-20ms             seconds more for each output token
  tokens-200                 length of an answer that nothing cuts
  rpm-60 tpm-10000           rate limits of this model: x-ratelimit-* on every answer, 429 with retry-after past them
  retry-2s                   what retry-after says on faults 429 and 503
  FAULT                      one of the faults below, on every call
  FAULT-p-5                  ... on 5 % of the calls
  FAULT-first-2              ... on the first 2 calls of each body, then no more
For example sim-latency-500ms-tokens-40, sim-503-first-2, sim-500-p-5-drop-p-1.

Faults: 400 401 403 404 408 409 429 500 502 503 504 (502 and 504 with an HTML body), quota (429 insufficient_quota),
hang (no answer at all), drip (the body over drip_seconds), drop (connection closed mid-body), reset (connection reset
before the first byte), not-json (a 200 that is no JSON), content-filter and truncated (how the answer finished).
What replaces the answer comes at once, what spoils it after its latency. Tries are counted by body since the reset.

Addresses of its own, without a key:
  GET  /_sim/settings        the settings; PUT replaces them (what is not named goes back to how the process started),
                             POST changes those named. {"latency": 0.5, "latency_per_token": 0, "tokens": 0, "rpm": 0,
                             "tpm": 0, "retry_after": 1, "drip_seconds": 5, "seed": 0,
                             "faults": [{"fault": "503", "probability": 0.05, "first": 0}]}
  GET  /_sim/calls           started, finished, abandoned (not written whole, whoever closed), in_flight, max_in_flight,
                             distinct_bodies, calls_per_body {"1": 990, "2": 10}, successes_per_body, calls_per_job,
                             by_status, by_fault, usage (tokens of the successes), untracked (past --max-distinct)
  GET  /_sim/calls/HASH      calls, successes and in_flight of one body: 16 or more hex digits of its sha256
  GET  /_sim/jobs/JOB        calls whose body had {"metadata": {"job": JOB}}
  GET  /_sim/repeated        the bodies and jobs called more than once, and the bodies with more than one success
  POST /_sim/reset           counts start again at nothing (settings stay)
"""
