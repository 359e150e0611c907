-- Raises fences, never lowers one, and deletes the values and notes behind those that were raised.
-- KEYS: value, fence, note, … ARGV: milliseconds, then versions.
for i = 1, #KEYS / 3 do
    local fence = tonumber(redis.call('get', KEYS[3 * i - 1]) or '')
    if not fence or tonumber(ARGV[i + 1]) > fence then
        redis.call('set', KEYS[3 * i - 1], ARGV[i + 1], 'px', ARGV[1])
        redis.call('del', KEYS[3 * i - 2], KEYS[3 * i])
    end
end
