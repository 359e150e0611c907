-- Stores values whose note is the one seen before the load, and whose fence is not above their version.
-- KEYS: value, fence, note, … ARGV: milliseconds, then version, note, value, …
for i = 1, #KEYS / 3 do
    local value, fence, note = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
    local version, seen = tonumber(ARGV[3 * i - 1]), ARGV[3 * i]
    if redis.call('get', note) == seen then
        local least = tonumber(redis.call('get', fence) or '0') or 0
        local stored = tonumber(redis.call('getrange', value, 0, 15)) or 0
        if least <= version and stored <= version then
            redis.call('set', value, ARGV[3 * i + 1], 'px', ARGV[1])
        end
    end
end
