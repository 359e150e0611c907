-- For each note its number, made with the number given if it is not there.
-- KEYS: notes. ARGV: a random number, milliseconds.
local numbers = {}
for i, key in ipairs(KEYS) do
    numbers[i] = redis.call('get', key) or ARGV[1]
    redis.call('set', key, numbers[i], 'px', ARGV[2])
end
return numbers
