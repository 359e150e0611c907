-- For each fence its number, made with the number given if it is not there.
-- KEYS: fences. ARGV: a random number, milliseconds.
local numbers = {}
for i, key in ipairs(KEYS) do
    local fence = redis.call('get', key)
    if not fence then
        fence = '0 ' .. ARGV[1] .. '.' .. i
        redis.call('set', key, fence, 'px', ARGV[2])
    end
    numbers[i] = string.match(fence, ' (.*)$')
end
return numbers
