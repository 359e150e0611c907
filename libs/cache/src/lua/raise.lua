-- Raises fences, never lowers one, and deletes the values behind those that were raised.
-- KEYS: value, fence, … ARGV: a random number, milliseconds, then versions.
for i = 1, #KEYS / 2 do
    local least, number = 0, ARGV[1] .. '.' .. i
    local fence = redis.call('get', KEYS[2 * i])
    if fence then
        least, number = string.match(fence, '^(%d+) (.*)$')
    end
    if not fence or tonumber(ARGV[i + 2]) > tonumber(least) then
        redis.call('set', KEYS[2 * i], ARGV[i + 2] .. ' ' .. number, 'px', ARGV[2])
        redis.call('del', KEYS[2 * i - 1])
    end
end
