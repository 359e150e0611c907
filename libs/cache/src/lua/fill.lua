-- Stores values whose fence is the one noted before the load, and not above the value's version.
-- KEYS: value, fence, … ARGV: milliseconds, then version, number, value, …
for i = 1, #KEYS / 2 do
    local version, number, value = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]
    local fence = redis.call('get', KEYS[2 * i])
    if fence then
        local least, now = string.match(fence, '^(%d+) (.*)$')
        local stored = redis.call('getrange', KEYS[2 * i - 1], 0, 15)
        if now == number and tonumber(least) <= tonumber(version)
            and (stored == '' or tonumber(stored) <= tonumber(version)) then
            redis.call('set', KEYS[2 * i - 1], value, 'px', ARGV[1])
        end
    end
end
