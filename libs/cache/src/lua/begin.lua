-- For each note its number, made with the number given if it is not there.
-- KEYS: notes. ARGV: a random number, milliseconds.
local numbers = {}
for i, key in ipairs(KEYS) do
    numbers[i] = redis.call('get', key)
    if not numbers[i] then
        numbers[i] = ARGV[1]
        redis.call('set', key, ARGV[1], 'px', ARGV[2])
    end
end
return numbers
