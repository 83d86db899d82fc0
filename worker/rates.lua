-- The limits of a provider and of one of its models, kept by all workers together: each is a scope, a hash of its own.
-- A scope has a level of requests and one of tokens, refilled steadily to a second's worth at most, and the calls that
-- each process has in flight. Tokens may go below zero, since nobody knows beforehand how many a call takes: the next
-- waits until they are back.
--
-- KEYS: scopes, the model's last.
-- ARGV: "acquire" or "settle", the process, 3 numbers for each scope (requests and tokens per minute, calls in flight; 0 is
-- no limit), and then
--   acquire: the tokens of each call that waits. Returns how many may go, milliseconds until the next may, and processes.
--   settle: calls that ended, tokens to give back, and of the model what the provider said: requests and tokens per minute,
--   requests and tokens remaining (each -1 where it said nothing), milliseconds in which it wants no call, and 1 where it
--   refused a call: that takes from the pace, unless it has told its limits lately.
local USED_SHARE = 0.98
local BURST_SECONDS = 1
local TOLD_SECONDS = 120
local PROCESS_SECONDS = 60
local KEEP_SECONDS = 3600
local CUT_SHARE, CUT_SECONDS, LEAST_SHARE, REGAIN_PER_SECOND = 0.7, 2, 0.02, 0.005

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local act, process = ARGV[1], ARGV[2]

local function lower(limit, told)
    if told == nil or told <= 0 then return limit end
    if limit == 0 or told < limit then return told end
    return limit
end

local function level(stored, rate, passed)
    local full = rate * BURST_SECONDS
    if full < 1 then full = 1 end
    if stored == nil then return full end
    local refilled = tonumber(stored) + passed * rate
    if refilled > full then return full end
    return refilled
end

local function load(index)
    local hash, stored = {}, redis.call('HGETALL', KEYS[index])
    for at = 1, #stored, 2 do hash[stored[at]] = stored[at + 1] end
    local first = 3 + (index - 1) * 3
    local rpm, tpm, most = tonumber(ARGV[first]), tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])
    local told = hash.told_at and now - tonumber(hash.told_at) < TOLD_SECONDS
    if told then
        rpm, tpm = lower(rpm, tonumber(hash.told_rpm)), lower(tpm, tonumber(hash.told_tpm))
    end
    local passed = now - tonumber(hash.at or now)
    local share = tonumber(hash.share or 1) + passed * REGAIN_PER_SECOND
    if share > 1 then share = 1 end
    local scope = {key = KEYS[index], most = most, share = share, cut_at = tonumber(hash.cut_at or 0),
        blocked = tonumber(hash.blocked or 0), told = told, in_flight = 0, own = 0, processes = 0}
    if rpm > 0 then
        scope.request_rate = rpm * USED_SHARE * share / 60
        scope.requests = level(hash.requests, scope.request_rate, passed)
    end
    if tpm > 0 then
        scope.token_rate = tpm * USED_SHARE * share / 60
        scope.tokens = level(hash.tokens, scope.token_rate, passed)
    end
    for field, value in pairs(hash) do
        local name = string.match(field, '^calls:(.*)$')
        if name then
            if name == process then
                scope.own = tonumber(value)
            elseif now - tonumber(hash['seen:' .. name] or 0) < PROCESS_SECONDS then
                scope.in_flight = scope.in_flight + tonumber(value)
                scope.processes = scope.processes + 1
            else
                redis.call('HDEL', KEYS[index], field, 'seen:' .. name)
            end
        end
    end
    scope.processes = scope.processes + 1
    return scope
end

local function save(scope)
    local fields = {'at', now, 'share', scope.share, 'cut_at', scope.cut_at, 'blocked', scope.blocked,
        'calls:' .. process, scope.own, 'seen:' .. process, now}
    if scope.requests then
        fields[#fields + 1] = 'requests'
        fields[#fields + 1] = scope.requests
    end
    if scope.tokens then
        fields[#fields + 1] = 'tokens'
        fields[#fields + 1] = scope.tokens
    end
    for at, value in ipairs(fields) do
        if type(value) == 'number' then fields[at] = string.format('%.6f', value) end
    end
    redis.call('HSET', scope.key, unpack(fields))
    redis.call('EXPIRE', scope.key, KEEP_SECONDS)
end

local scopes = {}
for index = 1, #KEYS do scopes[index] = load(index) end
local rest = 3 + #KEYS * 3

if act == 'settle' then
    local ended, tokens = tonumber(ARGV[rest]), tonumber(ARGV[rest + 1])
    for index, scope in ipairs(scopes) do
        scope.own = math.max(0, scope.own - ended)
        if scope.tokens then scope.tokens = scope.tokens + tokens end
        if index == #scopes then
            local rpm, tpm = tonumber(ARGV[rest + 2]), tonumber(ARGV[rest + 3])
            if rpm > 0 or tpm > 0 then
                redis.call('HSET', scope.key, 'told_at', string.format('%.6f', now), 'told_rpm', rpm, 'told_tpm', tpm)
            end
            local requests, left = tonumber(ARGV[rest + 4]), tonumber(ARGV[rest + 5])
            if scope.requests and requests >= 0 then scope.requests = math.min(scope.requests, requests) end
            if scope.tokens and left >= 0 then scope.tokens = math.min(scope.tokens, left) end
            scope.blocked = math.max(scope.blocked, now + tonumber(ARGV[rest + 6]) / 1000)
            if ARGV[rest + 7] == '1' and not scope.told and now - scope.cut_at > CUT_SECONDS then
                scope.share = math.max(LEAST_SHARE, scope.share * CUT_SHARE)
                scope.cut_at = now
            end
        end
        save(scope)
    end
    return {0, 0, scopes[#scopes].processes}
end

local granted, wait = 0, 0
for at = rest, #ARGV do
    for _, scope in ipairs(scopes) do
        if scope.blocked > now then wait = math.max(wait, scope.blocked - now) end
        if scope.requests and scope.requests < 1 then
            wait = math.max(wait, (1 - scope.requests) / scope.request_rate)
        end
        if scope.tokens and scope.tokens <= 0 then
            wait = math.max(wait, (1 - scope.tokens) / scope.token_rate)
        end
        if scope.most > 0 and scope.own + scope.in_flight >= scope.most then wait = math.max(wait, 0.05) end
    end
    if wait > 0 then break end
    for _, scope in ipairs(scopes) do
        if scope.requests then scope.requests = scope.requests - 1 end
        if scope.tokens then scope.tokens = scope.tokens - tonumber(ARGV[at]) end
        scope.own = scope.own + 1
    end
    granted = granted + 1
end
for _, scope in ipairs(scopes) do save(scope) end
return {granted, math.ceil(wait * 1000), scopes[#scopes].processes}
